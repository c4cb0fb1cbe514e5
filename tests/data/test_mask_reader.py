"""Masks by colour, in a channel, and a file per class: what a mask's file means is said by params."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from segops.contracts.dataset import Dataset
from segops.data.masks import MaskValues, read_mask
from segops.data.read_changes import ChangeLog
from segops.data.shards import read_examples
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.pictures.images import png
from segops.stages.ingest import ingest
from tests.support.factories import ingest_params, write_image
from tests.support.layout_examples import examples

CLASSES_HW = np.zeros((8, 9), np.uint8)
CLASSES_HW[1:4, 1:5], CLASSES_HW[5:7, 3:8] = 1, 2
COLOURS = {"#000000": "background", "#ff0000": "artery", "#0000FF": "vein"}
RGB = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)


def read(folder: Path, files: dict[str, np.ndarray], **params: Any) -> tuple[Dataset, list[np.ndarray]]:
    """Ingest an image of noise for each mask; return the dataset and its masks."""
    for path, mask in files.items():
        write_image(folder / "raw" / path, mask)
    for stem in sorted({Path(path).stem.removesuffix("_artery").removesuffix("_vein") for path in files}):
        noise_HW = np.random.default_rng(0).integers(0, 99, CLASSES_HW.shape, np.uint8)
        write_image(folder / "raw" / "images" / f"{stem}.png", noise_HW)
    values = {"mask_values": {0: "background", 1: "artery", 2: "vein"}}
    dataset = ingest(ingest_params(folder / "raw", **{**values, **params}), dataset=folder / "d")
    return dataset, [example.mask_HW for example in read_examples(folder / "d")]


def test_colours_are_classes(tmp_path: Path) -> None:
    dataset, (mask_HW,) = read(tmp_path, {"masks/a.png": RGB[CLASSES_HW]}, mask_values=COLOURS)
    np.testing.assert_array_equal(mask_HW, CLASSES_HW)
    assert dataset.classes == ["background", "artery", "vein"]


def test_a_palette_s_colours_count_where_params_list_colours() -> None:
    content = png(CLASSES_HW, ["#000000", "#ff0000", "#0000ff"])
    by_colour = read_mask(content, "a.png", ChangeLog(), by_colour=True)
    np.testing.assert_array_equal(by_colour, np.array([0, 0xFF0000, 0x0000FF])[CLASSES_HW])


def test_a_stray_colour_is_named_and_a_near_one_may_be_taken() -> None:
    params = IngestParams(source="a", mask_values=COLOURS)
    codes = np.array([[0x000000, 0xFF0000, 0xF80305]])
    with pytest.raises(
        UserError, match=r"^a: value #f80305 in 1 pixel is not in ingest.mask_values \(#000000, #0000ff"
    ):
        MaskValues(params.class_of_value, by_colour=True).apply(codes, "a", ChangeLog())
    nearest = MaskValues(params.class_of_value, "nearest", by_colour=True)
    assert nearest.apply(codes, "a", ChangeLog()).tolist() == [[0, 1, 1]]
    with pytest.raises(UserError, match="too far"):
        nearest.apply(np.array([[0x800080]]), "a", ChangeLog())


def test_a_coloured_mask_that_params_do_not_expect_is_refused_with_its_colours(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^masks/a.png: a coloured mask, with #000000, #ff0000, #0000ff; list colours"):
        read(tmp_path, {"masks/a.png": RGB[CLASSES_HW]})


@pytest.mark.parametrize("channel", [0, 1, 3])
def test_a_mask_may_be_in_one_channel_of_its_file(channel: int, tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 255, (8, 9, 4), np.uint8)
    rgba[..., channel] = CLASSES_HW
    _, (mask_HW,) = read(tmp_path, {"masks/a.png": rgba}, mask_channel=channel)
    np.testing.assert_array_equal(mask_HW, CLASSES_HW)
    with pytest.raises(UserError, match=r"^masks/a.png: 4 channels, but ingest.mask_channel is 4, counted from 0"):
        read(tmp_path, {"masks/a.png": rgba}, mask_channel=4)


@pytest.mark.parametrize(
    ("masks", "path"),
    [("masks/{class}", "masks/{}/a.png"), ("masks/*_{class}.png", "masks/a_{}.png"), ("{class}/*.png", "{}/a.png")],
)
def test_a_file_per_class_is_found_by_its_name(masks: str, path: str, tmp_path: Path) -> None:
    files = {
        path.format("artery"): (CLASSES_HW == 1) * np.uint8(255),
        path.format("vein"): (CLASSES_HW == 2) * np.uint8(9),
    }
    dataset, (mask_HW,) = read(tmp_path, files, masks=masks, mask_kind="one_file_per_class")
    np.testing.assert_array_equal(mask_HW, CLASSES_HW)
    assert dataset.unused == []
    assert dataset.changes == []


def test_a_class_without_a_file_is_not_in_the_image_and_overlap_is_told(tmp_path: Path) -> None:
    vein_HW = (CLASSES_HW == 2) * np.uint8(255)
    vein_HW[1, 1:3] = 255  # of the artery's pixels
    files = {
        "masks/artery/a.png": (CLASSES_HW == 1) * np.uint8(255),
        "masks/vein/a.png": vein_HW,
        "masks/vein/b.png": vein_HW,
    }
    dataset, (both_HW, alone_HW) = read(tmp_path, files, masks="masks/{class}", mask_kind="one_file_per_class")
    expected = np.where(vein_HW, 2, CLASSES_HW)
    np.testing.assert_array_equal(both_HW, expected)
    np.testing.assert_array_equal(alone_HW, np.where(vein_HW, 2, 0))
    (change,) = dataset.changes
    assert (change.change, change.pixels) == ("overlap of classes, kept by the one that is listed last", 2)


def test_a_table_may_name_a_file_per_class() -> None:
    names = ["a.png", "b.png", "artery/a.png", "vein/a.png", "vein/b.png", "table.csv"]
    table = "image,mask\na.png,{class}/a.png\nb.png,{class}/b.png\n"
    classes = {0: "background", 1: "artery", 2: "vein"}
    a, b = examples(names, table, layout="csv", mask_kind="one_file_per_class", mask_values=classes)
    assert (a.masks, a.mask_classes) == (("artery/a.png", "vein/a.png"), (1, 2))
    assert (b.masks, b.mask_classes) == (("vein/b.png",), (2,))


def test_ids_of_objects_may_be_colours(tmp_path: Path) -> None:
    dataset, (mask_HW,) = read(
        tmp_path, {"masks/a.png": RGB[CLASSES_HW]}, mask_kind="objects", mask_values={0: "background", 1: "vessel"}
    )
    np.testing.assert_array_equal(mask_HW, CLASSES_HW > 0)
    assert dataset.objects == 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"mask_values": {0: "background", "#ff0000": "a"}}, "mixes numbers and colours"),
        ({"mask_values": {0: "background", "red": "a"}}, "'red' is neither a whole number nor a colour"),
        ({"masks": "masks/{class}"}, "go together; set both or neither"),
        ({"mask_kind": "one_file_per_class"}, "go together; set both or neither"),
        ({"mask_kind": "one_file_per_class", "layout": "bids"}, "works with layouts pairs and csv, not with bids"),
    ],
)
def test_params_of_masks_that_do_not_go_together_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        IngestParams(source="a", **params)
