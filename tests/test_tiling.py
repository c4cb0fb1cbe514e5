"""Overlapping tiles and their blending."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segops.inference.tiling import blend_tiles, gaussian_window, tile_starts

Array = npt.NDArray[Any]


def test_tiles_are_evenly_spread_and_end_at_the_end() -> None:
    assert tile_starts(100, 40, 0.25) == [0, 30, 60]
    assert tile_starts(101, 40, 0.25) == [0, 20, 41, 61]
    assert tile_starts(40, 40, 0.5) == tile_starts(10, 40, 0.5) == [0]


@given(st.integers(1, 500), st.integers(1, 200), st.floats(0, 0.89, allow_subnormal=False))
def test_tiles_cover_everything_with_at_least_the_overlap(length: int, tile: int, overlap: float) -> None:
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0
    assert max(starts) + min(tile, length) == length
    for one, following in pairwise(starts):
        assert 0 < following - one <= max(1, int(tile * (1 - overlap)))


def test_the_window_is_highest_in_the_middle_and_positive_at_the_border() -> None:
    window = gaussian_window((9, 15))
    assert window.shape == (9, 15)
    assert window[4, 7] == window.max() == 1
    assert window.min() > 0
    assert np.array_equal(window, window[::-1, ::-1])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0, 0.8, allow_subnormal=False),
)
def test_what_each_pixel_gives_by_itself_survives_blending(
    height: int, width: int, tile_h: int, tile_w: int, overlap: float
) -> None:
    image = np.random.default_rng(0).random((height, width, 3)).astype(np.float32)
    blended = blend_tiles(image, (tile_h, tile_w), overlap, lambda tile: tile[..., :2].transpose(2, 0, 1))
    np.testing.assert_allclose(blended, image[..., :2].transpose(2, 0, 1), rtol=1e-5)


def test_tiles_keep_their_size_unless_the_image_is_smaller() -> None:
    seen: list[tuple[int, ...]] = []

    def predict(tile: Array) -> npt.NDArray[np.float32]:
        seen.append(tile.shape[:2])
        return np.ones((1, *tile.shape[:2]), np.float32)

    blended = blend_tiles(np.zeros((100, 20, 1), np.uint8), (32, 32), 0.25, predict)
    assert set(seen) == {(32, 20)}
    assert blended.shape == (1, 100, 20)
    np.testing.assert_allclose(blended, 1, rtol=1e-6)


def test_a_seam_is_a_ramp_not_a_step() -> None:
    calls = iter([0.0, 1.0])
    blended = blend_tiles(
        np.zeros((10, 60, 1), np.uint8),
        (10, 40),
        0.5,
        lambda tile: np.full((1, *tile.shape[:2]), next(calls), np.float32),
    )
    line = blended[0, 5]
    assert line[:20] == pytest.approx(0)
    assert line[40:] == pytest.approx(1)
    assert (np.diff(line) >= 0).all()
    assert np.diff(line).max() < 0.2
