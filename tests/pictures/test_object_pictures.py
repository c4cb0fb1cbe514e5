"""Objects that touch are told apart in every drawing of masks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segops.pictures.images import mask_picture, nearest, overlay, seams
from segops.pictures.overlays import over
from segops.pictures.thumbnails import SIDE_PX, Thumbnails, ThumbnailWriter

TWO = ["#000000", "#e69f00"]
OBJECTS = np.array([[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [3, 3, 3, 0, 4]], np.uint16)
MASK = np.minimum(OBJECTS, 1).astype(np.uint8)
SEAMS = np.array([[0, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)


def test_a_seam_is_where_the_right_or_lower_neighbour_is_another_object() -> None:
    np.testing.assert_array_equal(seams(OBJECTS), SEAMS)
    assert not seams(MASK).any()


def test_a_mask_shows_its_objects_parted_by_the_background() -> None:
    shown = mask_picture(MASK, TWO, OBJECTS)
    np.testing.assert_array_equal(shown[..., 0], np.where(SEAMS, 0, MASK * 255))
    np.testing.assert_array_equal(mask_picture(MASK, TWO)[..., 0], MASK * 255)


def test_an_overlay_outlines_objects_that_touch_each_by_itself() -> None:
    image = np.full((12, 30, 1), 200, np.uint8)
    objects = np.zeros((12, 30), np.uint8)
    objects[1:11, 1:15], objects[1:11, 15:29] = 1, 2
    mask = np.minimum(objects, 1)
    orange = np.array([0xE6, 0x9F, 0])
    plain, told = (overlay(image, mask, TWO, 0, objects_HW=objects_HW) for objects_HW in (None, objects))
    assert (told[5, 14:16] == orange).all()
    assert (plain[5, 14:16] == 200).all()
    assert ((plain == orange) <= (told == orange)).all()


@pytest.mark.parametrize("size_hw", [(3, 5), (2, 3), (9, 10), (1, 1), (256, 77)])
def test_nearest_is_pillow_s(size_hw: tuple[int, int]) -> None:
    expected = Image.fromarray(OBJECTS.astype(np.uint8)).resize(size_hw[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(nearest(OBJECTS, size_hw), np.asarray(expected))


def test_thumbnails_keep_where_objects_touch_and_say_where_none_are_told_apart(tmp_path: Path) -> None:
    large = np.kron(OBJECTS, np.ones((200, 200), np.uint16))  # a seam of one pixel would be lost in a small picture
    mask = np.minimum(large, 1).astype(np.uint8)
    with ThumbnailWriter(tmp_path / "t.zip", {"a", "b"}) as writer:
        writer.add("a", mask[..., None] * np.uint8(200), mask, mask, truth_objects_HW=large)
        writer.add("b", mask[..., None] * np.uint8(200), mask, mask)
    read = Thumbnails(tmp_path / "t.zip")
    truth, predicted = read.seams("a")
    assert truth is not None
    assert predicted is None
    assert truth.shape == (SIDE_PX * 3 // 5 + 1, SIDE_PX)
    np.testing.assert_array_equal(truth > 0, seams(nearest(large, (truth.shape[0], truth.shape[1]))))
    assert truth.any()
    assert read.seams("b") == (None, None)


def test_the_rim_over_an_image_includes_where_predicted_objects_touch() -> None:
    mask, line = np.ones((5, 9), np.uint8), np.zeros((5, 9), np.uint8)
    line[:, 4] = 1
    with Image.open(io.BytesIO(over(mask, mask, TWO, line))) as read:
        shown = np.asarray(read.convert("RGBA"))
    with Image.open(io.BytesIO(over(mask, mask, TWO))) as read:
        without = np.asarray(read.convert("RGBA"))
    assert (shown[2, 4] == shown[0, 0]).all()
    assert shown[2, 3, 3] == without[2, 4, 3] == 0, "right pixels inside are transparent"
