"""Names of files as public sets have them: which layout and which globs pair them."""

from __future__ import annotations

from typing import Any

import pytest

from segops.errors import UserError
from segops.planning.pairing import find_pairing


class Named:
    """A source of which only names are known; what is read is given by name."""

    def __init__(self, names: list[str], content: dict[str, bytes] | None = None) -> None:
        self.content = content or {}
        self.names = sorted([*names, *self.content])

    def read(self, name: str) -> bytes:
        if name not in self.content:
            raise UserError(f"{name}: no bytes")
        return self.content[name]


def files(pattern: str, *values: Any) -> list[str]:
    """Names of a pattern for each of the values."""
    return [pattern.format(value) for value in values]


CASES: dict[str, tuple[list[str], dict[str, Any], int]] = {
    "folders": (files("images/{}.png", 1, 2) + files("masks/{}.png", 1, 2), {"images": "images", "masks": "masks"}, 2),
    "below a root": (
        files("set/images/{}.jpg", 1, 2) + files("set/labels/{}.png", 1, 2),
        {"images": "set/images", "masks": "set/labels"},
        2,
    ),
    "suffix": (files("{}.png", 1, 2) + files("{}_mask.png", 1, 2), {"images": "*.png", "masks": "*_mask.png"}, 2),
    "two suffixes": (
        files("d/{}_img.tif", 1, 2) + files("d/{}_seg.tif", 1, 2),
        {"images": "d/*_img.tif", "masks": "d/*_seg.tif"},
        2,
    ),
    "prefix": (
        files("img_{}.png", 1, 2) + files("mask_{}.png", 1, 2),
        {"images": "img_*.png", "masks": "mask_*.png"},
        2,
    ),
    "capitals": (
        files("{}Img.png", "a", "b") + files("{}Mask.png", "a", "b"),
        {"images": "*Img.png", "masks": "*Mask.png"},
        2,
    ),
    "DRIVE": (
        files("training/images/{}_training.tif", 21, 22) + files("training/1st_manual/{}_manual1.png", 21, 22),
        {"images": "training/images/*_training.tif", "masks": "training/1st_manual/*_manual1.png"},
        2,
    ),
    "DRIVE with test images": (
        files("training/images/{}_training.tif", 21, 22)
        + files("training/1st_manual/{}_manual1.png", 21, 22)
        + files("test/images/{}_test.tif", 1, 2),
        {"images": "training/images/*_training.tif", "masks": "training/1st_manual/*_manual1.png"},
        2,
    ),
    "subsets above roles": (
        files("{}.png", "train/images/a", "val/images/b", "train/masks/a", "val/masks/b"),
        {"images": "*/images/*.png", "masks": "*/masks/*.png"},
        2,
    ),
    "roles above subsets": (
        files("{}.png", "images/train/a", "images/val/a", "masks/train/a", "masks/val/a"),
        {"images": "images", "masks": "masks"},
        2,
    ),
    "BUSI": (
        files("B/{}.png", *(f"{k}/{k} ({i}){m}" for k in ("good", "bad") for i in (1, 2) for m in ("", "_mask"))),
        {"images": "B/*/*.png", "masks": "B/*/*_mask.png"},
        4,
    ),
    "a mask an object": (
        files("images/{}.png", 1, 2) + files("masks/1/{}.png", "x", "y") + files("masks/2/{}.png", "x"),
        {"images": "images", "masks": "masks"},
        2,
    ),
    "test images of the same names": (
        files("train/image/{}.png", 1, 2) + files("train/label/{}.png", 1, 2) + files("test/{}.png", 1, 2),
        {"images": "train/image", "masks": "train/label"},
        2,
    ),
    "a folder an image, one name in all": (
        files("case{}/image.png", 1, 2) + files("case{}/mask.png", 1, 2),
        {"images": "*/image.png", "masks": "*/mask.png"},
        2,
    ),
    "PH2": (
        files("P/I{0:02d}/I{0:02d}_Dermoscopic_Image/I{0:02d}.bmp", *range(9))
        + files("P/I{0:02d}/I{0:02d}_lesion/I{0:02d}_lesion.bmp", *range(9)),
        {"images": "P/*/*_Dermoscopic_Image/*.bmp", "masks": "P/*/*_lesion/*_lesion.bmp"},
        9,
    ),
    "TNBC": (
        files("Slide_{0:02d}/{0:02d}_1.png", *range(1, 12)) + files("GT_{0:02d}/{0:02d}_1.png", *range(1, 12)),
        {"images": "*/*.png", "masks": "GT_*/*.png"},
        11,
    ),
    "a sequence with other counters": (
        files("01/t{:03d}.tif", 0, 1) + files("01_GT/SEG/man_seg{:03d}.tif", 0, 1),
        {"images": "01/t*.tif", "masks": "01_GT/SEG/man_seg*.tif"},
        2,
    ),
    "wildcards in names": (
        files("data [v2]/images/{}.png", 1, 2) + files("data [v2]/masks/{}.png", 1, 2) + ["notes.png"],
        {"images": "data ?v2?/images/*.png", "masks": "data ?v2?/masks/*.png"},
        2,
    ),
    "channels beside their mask": (
        files("c{0}/c{0}_t1.png", 1, 2) + files("c{0}/c{0}_t2.png", 1, 2) + files("c{0}/c{0}_seg.png", 1, 2),
        {"images": "*/*{channel}.png", "masks": "*/*_seg.png", "stack": ["_t1", "_t2"]},
        2,
    ),
    "channels": (
        files("img/{}.tif", "1_DAPI", "1_GFP", "2_DAPI", "2_GFP") + files("seg/{}.tif", 1, 2),
        {"images": "img/*{channel}.tif", "masks": "seg/*.tif", "stack": ["_DAPI", "_GFP"]},
        2,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_names_pair(case: str) -> None:
    names, expected, pairs = CASES[case]
    pairing = find_pairing(Named(names), "source")
    assert pairing.params == {"layout": "pairs", **expected}
    assert len(pairing.pairs) == pairs


def test_nnunets_classes_are_read_whichever_way_round_they_are_written() -> None:
    names = files("imagesTr/c{}_0000.png", 1, 2) + files("labelsTr/c{}.png", 1, 2)
    for labels in (b'{"labels": {"background": 0, "tumour": 1}}', b'{"labels": {"0": "background", "1": "tumour"}}'):
        pairing = find_pairing(Named(names, {"dataset.json": labels}), "source")
        assert pairing.params == {"layout": "pairs", "images": "imagesTr", "masks": "labelsTr", "stack": ["_0000"]}
        assert pairing.class_names == {0: "background", 1: "tumour"}


def test_a_table_goes_before_names() -> None:
    names = files("images/{}.png", 1, 2) + files("masks/{}.png", 1, 2)
    table = {"list.csv": b"image,mask\nimages/1.png,masks/1.png\nimages/2.png,masks/2.png\n"}
    assert find_pairing(Named(names, table), "source").params == {"layout": "csv", "table": "list.csv"}


def test_other_files_that_look_like_masks_are_a_doubt() -> None:
    names = files("JPEGImages/{}.jpg", 1, 2) + files("SegmentationClass/{}.png", 1, 2)
    assert find_pairing(Named(names), "source").sure
    pairing = find_pairing(Named(names + files("SegmentationObject/{}.png", 1, 2)), "source")
    assert not pairing.sure
    assert "SegmentationObject" in pairing.why
    assert len(pairing.unused) == 2


def test_images_without_a_mask_are_left_out_with_a_doubt() -> None:
    names = files("images/{}.png", 1, 2, 3, 4) + files("masks/{}.png", 1, 2, 3)
    pairing = find_pairing(Named(names), "source")
    assert pairing.params == {"layout": "pairs", "images": "images", "masks": "masks", "unpaired": "skip"}
    assert not pairing.sure
    assert (len(pairing.pairs), pairing.unused) == (3, ["images/4.png"])


def test_the_error_says_what_is_there_where_nothing_pairs() -> None:
    with pytest.raises(UserError, match="of 2 image files no folder or name says mask; --wizard asks"):
        find_pairing(Named(files("a/{}.png", 1, 2)), "source")
    with pytest.raises(UserError, match=r"holds no image that can be read \(1 file: .txt\)"):
        find_pairing(Named(["notes.txt"]), "source")


def test_thousands_of_names_pair_in_time_that_grows_with_their_number() -> None:
    numbers = range(2000)  # a proposal that compares each name with each takes minutes, which the timeout ends
    pairing = find_pairing(Named(files("a/p{}.png", *numbers) + files("a/p{}_mask.png", *numbers)), "source")
    assert len(pairing.pairs) == 2000
