"""Pixels of no known class are hatched in every picture of a mask, and nothing else of it changes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segops.contracts.masks import IGNORED
from segops.pictures.images import HATCH, class_error_map, error_map, mask_picture, overlay, stripes
from segops.pictures.mosaic import tile
from segops.pictures.overlays import over

COLOURS = ["#000000", "#e69f00", "#56b4e9"]
TRUTH_HW = np.random.default_rng(0).integers(0, 3, (12, 20), np.uint8)
PREDICTED_HW = np.random.default_rng(1).integers(0, 3, (12, 20), np.uint8)
IMAGE_HW = np.random.default_rng(2).integers(0, 255, (12, 20), np.uint8)
LEFT = 13
IGNORING_HW = TRUTH_HW.copy()
IGNORING_HW[:, LEFT:] = IGNORED
BRIGHT_HW = stripes(TRUTH_HW.shape)[:, LEFT:]


@pytest.mark.parametrize(
    "draw",
    [
        lambda truth_HW: mask_picture(truth_HW, COLOURS),
        lambda truth_HW: mask_picture(np.where(truth_HW == 2, 1, truth_HW), COLOURS[:2]),
        lambda truth_HW: error_map(truth_HW, PREDICTED_HW),
        lambda truth_HW: class_error_map(truth_HW, PREDICTED_HW, COLOURS),
    ],
)
def test_a_picture_of_a_mask_is_hatched_where_it_is_ignored(draw: Callable[[np.ndarray], Any]) -> None:
    shown, plain = draw(IGNORING_HW), draw(TRUTH_HW)
    np.testing.assert_array_equal(shown[:, :LEFT], plain[:, :LEFT])
    np.testing.assert_array_equal(shown[:, LEFT:], np.array(HATCH, np.uint8)[BRIGHT_HW.astype(int)])


def test_an_overlay_shows_the_image_between_the_stripes() -> None:
    shown = overlay(IMAGE_HW, IGNORING_HW, COLOURS)
    np.testing.assert_array_equal(shown[:, LEFT:][BRIGHT_HW], np.broadcast_to(HATCH[1], (BRIGHT_HW.sum(), 3)))
    np.testing.assert_array_equal(shown[:, LEFT:][~BRIGHT_HW], IMAGE_HW[:, LEFT:, None].repeat(3, 2)[~BRIGHT_HW])


@pytest.mark.parametrize("classes", [2, 3, 200])
def test_what_lies_over_an_image_has_no_errors_in_ignored_pixels(classes: int) -> None:
    def shown(truth_HW: np.ndarray) -> np.ndarray:
        truth_HW, predicted_HW = (
            np.where(mask_HW == IGNORED, IGNORED, np.minimum(mask_HW, classes - 1)).astype(np.uint8)
            for mask_HW in (truth_HW, np.zeros_like(TRUTH_HW))
        )
        content = over(truth_HW, predicted_HW, [f"#{index:02x}0000" for index in range(classes)])
        with Image.open(io.BytesIO(content)) as read:
            return np.asarray(read.convert("RGBA"))

    ignoring, plain = shown(IGNORING_HW), shown(TRUTH_HW)
    np.testing.assert_array_equal(ignoring[:, :LEFT], plain[:, :LEFT])
    np.testing.assert_array_equal(ignoring[:, LEFT:][BRIGHT_HW][:, :3], np.broadcast_to(HATCH[1], (BRIGHT_HW.sum(), 3)))
    assert not ignoring[:, LEFT:][~BRIGHT_HW][:, 3].any()  # transparent


def test_a_tile_of_the_mosaic_is_hatched_and_its_outlines_stay() -> None:
    def rims(mask_HW: np.ndarray) -> np.ndarray:
        _, uri = tile(IMAGE_HW, mask_HW, COLOURS)
        assert uri is not None
        with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as read:
            return np.asarray(read.convert("RGBA"))

    shown, plain = rims(IGNORING_HW), rims(TRUTH_HW)
    np.testing.assert_array_equal(shown[:, : LEFT - 1], plain[:, : LEFT - 1])
    np.testing.assert_array_equal(shown[:, LEFT:][BRIGHT_HW], np.broadcast_to((*HATCH[1], 255), (BRIGHT_HW.sum(), 4)))
    assert not shown[:, LEFT:][~BRIGHT_HW][:, 3].any()
