"""Pixels of no known class, as files and annotations say them: index 255 in the mask, no object, no figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from segops.cli.printing import dataset_summary
from segops.contracts.dataset import Dataset
from segops.contracts.masks import IGNORED
from segops.data.fingerprint import describe_mask
from segops.data.manifest import read_manifest
from segops.data.mask_fit import border
from segops.data.mask_placement import looks_swapped
from segops.data.shards import StoredExample, read_examples
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.stages.ingest import ingest
from tests.support.factories import ingest_params, write_image

SIZE = (8, 10)
CLASSES_HW = np.zeros(SIZE, np.uint8)
CLASSES_HW[1:4, 1:5], CLASSES_HW[5:7, 3:8] = 1, 2
IGNORED_HW = np.zeros(SIZE, bool)
IGNORED_HW[:, 4:6] = True  # a column of either class, and background
MASK_HW = np.where(IGNORED_HW, IGNORED, CLASSES_HW)
NAMED = {"mask_values": {0: "background", 1: "artery", 2: "vein"}}


def read(folder: Path, files: dict[str, np.ndarray], **params: Any) -> tuple[Dataset, StoredExample]:
    """Ingest an image of noise with those files beside it."""
    for path, array in files.items():
        write_image(folder / "raw" / path, array)
    write_image(folder / "raw" / "images" / "a.png", np.random.default_rng(0).integers(0, 99, SIZE, np.uint8))
    dataset = ingest(ingest_params(folder / "raw", **params), dataset=folder / "d")
    (example,) = read_examples(folder / "d")
    return dataset, example


def test_values_to_ignore_are_no_class_and_no_strays(tmp_path: Path) -> None:
    file_HW = np.where(IGNORED_HW, 7, CLASSES_HW).astype(np.uint8)
    file_HW[0, 4] = 9
    dataset, example = read(tmp_path, {"masks/a.png": file_HW}, **NAMED, ignore_values=[7, 9])
    np.testing.assert_array_equal(example.mask_HW, MASK_HW)
    seen = np.bincount(CLASSES_HW[~IGNORED_HW]) / (~IGNORED_HW).sum()
    assert dataset.class_share == dict(zip(("background", "artery", "vein"), seen.tolist(), strict=True))
    assert (dataset.ignored_share, dataset.changes) == (0.2, [])
    row = read_manifest(tmp_path / "d")[1].iloc[0]
    assert row[["classes", "ignored_fraction"]].tolist() == ["0 1 2", 0.2]
    assert row["foreground_fraction"] == pytest.approx(seen[1:].sum())


@pytest.mark.parametrize(
    ("value", "words"), [(7, "20.00% of the pixels ignored"), (70, "nothing ignored: no mask has")]
)
def test_the_command_says_how_much_is_ignored(value: int, words: str, tmp_path: Path) -> None:
    file_HW = np.where(IGNORED_HW, value if value == 7 else 0, CLASSES_HW).astype(np.uint8)
    dataset, _ = read(tmp_path, {"masks/a.png": file_HW}, **NAMED, ignore_values=[value])
    assert words in dataset_summary(dataset, IngestParams(source="a", **NAMED, ignore_values=[value]))


def test_a_value_that_is_neither_listed_nor_ignored_is_still_a_stray(tmp_path: Path) -> None:
    file_HW = np.where(IGNORED_HW, 7, CLASSES_HW).astype(np.uint8)
    file_HW[0, 0] = 8
    with pytest.raises(UserError, match=r"^masks/a.png: value 8 in 1 pixel is not in ingest.mask_values \(0, 1, 2\)"):
        read(tmp_path, {"masks/a.png": file_HW}, **NAMED, ignore_values=[7])


def test_noise_beside_ignored_pixels_is_told_from_ids(tmp_path: Path) -> None:
    """Ignored values are no hint that a mask holds numbers of classes or objects."""
    file_HW = np.where(IGNORED_HW, 2, np.where(CLASSES_HW == 1, 240, 0)).astype(np.uint8)
    file_HW[1, 1] = 239
    values = {"mask_values": {0: "background", 240: "cell"}, "stray_values": "nearest", "ignore_values": [2]}
    _, example = read(tmp_path, {"masks/a.png": file_HW}, **values)
    np.testing.assert_array_equal(example.mask_HW, np.where(IGNORED_HW, IGNORED, CLASSES_HW == 1))


def test_a_colour_to_ignore(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [128, 128, 128]], np.uint8)
    file_HW3 = colours[np.where(IGNORED_HW, 3, CLASSES_HW)]
    named = {"#000000": "background", "#ff0000": "artery", "#0000ff": "vein"}
    _, example = read(tmp_path, {"masks/a.png": file_HW3}, mask_values=named, ignore_values=["#808080"])
    np.testing.assert_array_equal(example.mask_HW, MASK_HW)


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 255), ("int16", -1), ("uint16", 65535), ("float32", 99)])
def test_an_id_to_ignore_is_no_object_and_the_others_are_numbered_without_gaps(
    dtype: str, value: int, tmp_path: Path
) -> None:
    ids_HW = np.where(IGNORED_HW, value, 5 * CLASSES_HW.astype(np.int64)).astype(dtype)
    ids_HW[0, 9] = value  # another piece
    (tmp_path / "raw" / "masks").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "raw" / "masks" / "a.tif", ids_HW)
    kind = {"mask_kind": "objects", "masks": "masks/*.tif", "ignore_values": [value]}
    dataset, example = read(tmp_path, {}, **kind)
    expected_HW = MASK_HW.copy()
    expected_HW[0, 9] = IGNORED
    seen_HW = expected_HW != IGNORED
    np.testing.assert_array_equal(example.mask_HW, np.where(seen_HW, np.minimum(expected_HW, 1), IGNORED))
    np.testing.assert_array_equal(example.objects_HW, np.where(seen_HW, expected_HW, 0))
    assert dataset.objects == 2


def test_0_may_be_ignored_and_ids_may_be_as_high_as_64_bits_go(tmp_path: Path) -> None:
    (tmp_path / "raw" / "masks").mkdir(parents=True)
    ids_HW = np.where(CLASSES_HW, np.uint64(2**63) + CLASSES_HW.astype(np.uint64), np.uint64(0))
    tifffile.imwrite(tmp_path / "raw" / "masks" / "a.tif", ids_HW)
    _, example = read(tmp_path, {}, mask_kind="objects", masks="masks/*.tif", ignore_values=[0])
    np.testing.assert_array_equal(example.mask_HW, np.where(CLASSES_HW, 1, IGNORED))
    np.testing.assert_array_equal(example.objects_HW, CLASSES_HW)


def test_a_pixel_that_one_class_s_file_ignores_is_ignored(tmp_path: Path) -> None:
    files = {
        "masks/artery/a.png": np.where(IGNORED_HW, 100, 255 * (CLASSES_HW == 1)).astype(np.uint8),
        "masks/vein/a.png": 255 * (CLASSES_HW == 2).astype(np.uint8),
    }
    kind = {"mask_kind": "one_file_per_class", "masks": "masks/{class}/*.png", "ignore_values": [100]}
    _, example = read(tmp_path, files, **NAMED, **kind)
    np.testing.assert_array_equal(example.mask_HW, MASK_HW)


def square(top: int, left: int, size: int) -> list[float]:
    return [left, top, left + size, top, left + size, top + size, left, top + size]


def annotated(folder: Path, objects: list[tuple[str, list[float], int]], **params: Any) -> StoredExample:
    """Ingest an image with objects of COCO: class, polygon, iscrowd."""
    names = sorted({name for name, _, _ in objects})
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": names.index(name), "segmentation": [ring], "iscrowd": crowd}
            for number, (name, ring, crowd) in enumerate(objects)
        ],
    }
    (folder / "raw").mkdir(parents=True)
    (folder / "raw" / "coco.json").write_text(json.dumps(document))
    cell = {"mask_values": {0: "background", 1: "cell"}, "layout": "coco", "table": "coco.json"}
    return read(folder, {}, **cell, **params)[1]


def boxes(*places: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of squares: top, left, size, value; later ones over earlier ones."""
    mask_HW = np.zeros(SIZE, np.uint8)
    for top, left, size, value in places:
        mask_HW[top : top + size, left : left + size] = value
    return mask_HW


@pytest.mark.parametrize("first", [True, False])
def test_a_crowd_of_coco_is_ignored_where_no_object_is_told_apart(first: bool, tmp_path: Path) -> None:
    crowd, cell = ("cell", square(0, 0, 4), 1), ("cell", square(2, 2, 4), 0)
    example = annotated(tmp_path, [crowd, cell] if first else [cell, crowd])
    np.testing.assert_array_equal(example.mask_HW, boxes((0, 0, 4, IGNORED), (2, 2, 4, 1)))
    np.testing.assert_array_equal(example.objects_HW, boxes((2, 2, 4, 1)))


def test_a_class_to_ignore_wins_over_objects(tmp_path: Path) -> None:
    objects = [("cell", square(2, 2, 4), 0), ("Ignore*", square(0, 0, 4), 0), ("cell", square(1, 1, 2), 0)]
    example = annotated(tmp_path, objects, ignore_classes=["Ignore*"])
    np.testing.assert_array_equal(example.mask_HW, boxes((2, 2, 4, 1), (0, 0, 4, IGNORED)))
    np.testing.assert_array_equal(example.objects_HW, boxes((2, 2, 4, 1), (0, 0, 4, 0)))  # the hidden one has no number


def test_a_crowd_of_a_class_that_is_left_out_is_left_out(tmp_path: Path) -> None:
    example = annotated(
        tmp_path, [("dirt", square(0, 0, 4), 1), ("cell", square(5, 5, 2), 0)], stray_values="background"
    )
    np.testing.assert_array_equal(example.mask_HW, boxes((5, 5, 2, 1)))


def test_planes_ignore_their_own_pixels(tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 99, (2, *SIZE), np.uint8)
    masks = np.stack([np.where(IGNORED_HW, 9, CLASSES_HW), CLASSES_HW]).astype(np.uint8)
    for path, stack in (("images/b.tif", planes), ("masks/b.tif", masks)):
        (tmp_path / "raw" / path).parent.mkdir(parents=True)
        tifffile.imwrite(tmp_path / "raw" / path, stack, photometric="minisblack")
    globs = {"images": "images/*.tif", "masks": "masks/*.tif", "planes": "split", "ignore_values": [9]}
    ingest(ingest_params(tmp_path / "raw", **globs, **NAMED), dataset=tmp_path / "d")
    first, second = read_examples(tmp_path / "d")
    np.testing.assert_array_equal(first.mask_HW, MASK_HW)
    np.testing.assert_array_equal(second.mask_HW, CLASSES_HW)


def test_a_mask_that_is_ignored_as_a_whole_has_no_class_and_no_foreground() -> None:
    columns, pixels = describe_mask(np.full(SIZE, IGNORED, np.uint8), 2)
    assert (columns["foreground_fraction"], columns["ignored_fraction"], columns["classes"]) == (0.0, 1.0, "")
    assert pixels.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ignore_values": [1]}, "1 is artery in mask_values; keep one of them"),
        ({"ignore_values": ["#808080"]}, "both numbers, or both colours"),
        ({"ignore_values": ["grey"]}, "'grey' is neither a whole number nor a colour"),
        ({"ignore_classes": ["vein"]}, "'vein' is a class of mask_values; keep one of them"),
    ],
)
def test_what_cannot_be_ignored_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        IngestParams(source="a", **{**NAMED, **given})


def test_the_edge_of_an_ignored_region_is_no_border() -> None:
    mask_HW = np.zeros(SIZE, np.uint8)
    mask_HW[2:6, 2:8] = 1
    whole_HW = border(mask_HW)
    mask_HW[:, 6:] = IGNORED
    np.testing.assert_array_equal(border(mask_HW)[:, :6], whole_HW[:, :6])
    assert not border(mask_HW)[:, 6:].any()


def test_spots_that_are_ignored_are_no_enclosed_background() -> None:
    mask_HW = np.ones((40, 40), np.uint8)
    mask_HW[:4] = 0
    spots = np.zeros((40, 40), bool)
    spots[10:30:4, 10:30:4] = spots[11:31:4, 10:30:4] = spots[12:32:4, 10:30:4] = True
    assert not looks_swapped(np.where(spots, IGNORED, mask_HW))
    mask_HW[:4] = 1
    assert looks_swapped(np.where(spots, 0, mask_HW))
    assert not looks_swapped(np.where(spots, IGNORED, mask_HW))
