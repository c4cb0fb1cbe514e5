"""Annotations, and a file for each class: which layouts and classes are proposed for them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from segops.data.images import encode_array
from segops.planning.pairing import find_pairing
from tests.planning.test_pairing import Named, files


def png(mask_HW: np.ndarray) -> bytes:
    """A mask's file."""
    return encode_array(mask_HW)[1]


def half(left: bool) -> np.ndarray:
    """A mask of the left or of the right half."""
    mask_HW = np.zeros((8, 8), np.uint8)
    mask_HW[:, :4] = 255 * left
    mask_HW[:, 4:] = 255 * (not left)
    return mask_HW


def coco(**changes: Any) -> bytes:
    """COCO's JSON of two images and a category that one of them has."""
    images = [{"id": n, "file_name": f"{n}.png", "height": 8, "width": 8} for n in (1, 2)]
    annotation = {"id": 1, "image_id": 1, "category_id": 7, "segmentation": [[0, 0, 4, 0, 4, 4]]}
    categories = [{"id": 7, "name": "cell"}, {"id": 8, "name": "never"}]
    return json.dumps({"images": images, "annotations": [annotation], "categories": categories, **changes}).encode()


def test_cocos_json_names_the_classes_that_are_annotated() -> None:
    source = Named(files("images/{}.png", 1, 2), {"annotations.json": coco()})
    pairing = find_pairing(source, "source")
    expected = {"layout": "coco", "table": "annotations.json", "images": "images"}
    assert pairing.params == {**expected, "mask_values": {0: "background", 1: "cell"}}


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"images": [], "annotations": 3, "categories": []}', coco(images=3)]
)
def test_a_json_that_only_looks_like_cocos_pairs_nothing(content: bytes) -> None:
    source = Named(files("images/{}.png", 1, 2) + files("masks/{}.png", 1, 2), {"x.json": content})
    assert find_pairing(source, "source").params["layout"] == "pairs"


def test_labels_of_labelme_and_qupath_are_classes() -> None:
    labelme = {"shapes": [{"label": "b", "points": []}, {"label": "a", "points": []}]}
    feature = {"type": "Feature", "properties": {"classification": {"name": "tumour"}}}
    for suffix, document, names in (("json", labelme, ["a", "b"]), ("geojson", [feature], ["tumour"])):
        content = {f"{n}.{suffix}": json.dumps(document).encode() for n in (1, 2)}
        pairing = find_pairing(Named(files("{}.png", 1, 2), content), "source")
        expected = {"layout": "pairs", "images": "*.png", "masks": f"*.{suffix}"}
        assert pairing.params == {**expected, "mask_values": {0: "background", **dict(enumerate(names, start=1))}}


def test_regions_that_qupath_and_labelme_ignore_are_no_class() -> None:
    labelme: Any = {"shapes": [{"label": label, "points": []} for label in ("cell", "__ignore__")]}
    features = [{"type": "Feature", "properties": {"classification": name}} for name in ("Tumor", "Ignore*")]
    kinds = (("json", labelme, ("cell", "__ignore__")), ("geojson", features, ("Tumor", "Ignore*")))
    for suffix, document, names in kinds:
        content = {f"{n}.{suffix}": json.dumps(document).encode() for n in (1, 2)}
        params = find_pairing(Named(files("{}.png", 1, 2), content), "source").params
        assert params["mask_values"] == {0: "background", 1: names[0]}
        assert params["ignore_classes"] == [names[1]]


def test_a_table_of_run_lengths_names_its_classes() -> None:
    table = b"ImageId,EncodedPixels,label\n1,1 2,b\n2,5 2,a\n"
    pairing = find_pairing(Named(files("train/{}.png", 1, 2), {"train.csv": table}), "source")
    assert pairing.params["layout"] == "run_lengths"
    assert pairing.params["mask_values"] == {0: "background", 1: "a", 2: "b"}


@pytest.mark.parametrize(
    ("name", "masks"),
    [("masks/{kind}/{n}.png", "masks/{class}/*.png"), ("images/{n}_mask_{kind}.png", "images/*_mask_{class}.png")],
)
def test_masks_that_share_no_pixel_are_classes_and_others_are_annotators(name: str, masks: str) -> None:
    images = files("images/{}.png", 1, 2)
    apart = {name.format(kind=kind, n=n): png(half(kind == "left")) for kind in ("left", "right") for n in (1, 2)}
    pairing = find_pairing(Named(images, apart), "source")
    assert pairing.params["masks"] == masks
    assert pairing.params["mask_kind"] == "one_file_per_class"
    assert pairing.params["mask_values"] == {0: "background", 1: "left", 2: "right"}
    same = {name.format(kind=kind, n=n): png(half(True)) for kind in ("anna", "bert") for n in (1, 2)}
    assert "mask_kind" not in find_pairing(Named(images, same), "source").params
