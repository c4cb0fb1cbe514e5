"""Overlapping windows and their blending."""

from __future__ import annotations

from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segops.inference.windows import blend_windows


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0, 0.8, allow_subnormal=False),
)
def test_what_each_pixel_gives_by_itself_survives_blending(
    height: int, width: int, window_h: int, window_w: int, overlap: float
) -> None:
    image_BCHW = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    blended = blend_windows(image_BCHW, (window_h, window_w), overlap, lambda window: window[:, :2])
    torch.testing.assert_close(blended, image_BCHW[:, :2], rtol=1e-5, atol=1e-6)


def test_windows_keep_their_size_with_black_beyond_a_smaller_image() -> None:
    seen: list[tuple[int, ...]] = []

    def predict(window_BChw: Tensor) -> Tensor:
        seen.append(tuple(window_BChw.shape[2:]))
        assert not window_BChw[:, :, :, 20:].any()
        return window_BChw

    blended = blend_windows(torch.ones(1, 1, 100, 20), (24, 32), 0.25, predict)
    assert seen == [(24, 32)] * 2  # six windows in batches of four: 100 px in steps of 18
    assert blended.shape == (1, 1, 100, 20)
    torch.testing.assert_close(blended, torch.ones(1, 1, 100, 20))


def test_an_image_that_fits_is_one_window_and_is_not_blended() -> None:
    image_BCHW = torch.rand(2, 1, 8, 9)
    assert torch.equal(blend_windows(image_BCHW, (8, 9), 0.5, lambda window: window * 3), image_BCHW * 3)


def test_a_seam_is_a_ramp_not_a_step() -> None:
    left_to_right = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)  # two windows, in one batch

    def predict(window_BChw: Tensor) -> Tensor:
        assert len(window_BChw) == 2
        return left_to_right.expand_as(window_BChw).clone()

    line = blend_windows(torch.zeros(1, 1, 10, 60), (10, 40), 0.5, predict)[0, 0, 5]
    assert line[:20].tolist() == pytest.approx([0] * 20)
    assert line[40:].tolist() == pytest.approx([1] * 20)
    assert (line.diff() >= 0).all()
    assert line.diff().max() < 0.2


def test_a_window_weighs_as_a_gaussian_of_an_eighth_of_its_side() -> None:
    """Windows at 0 and 8 of side 16: sigma 2. At column 11 they are 3.5 and 4.5 from their centres."""
    left_to_right = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    line = blend_windows(
        torch.zeros(1, 1, 16, 24), (16, 16), 0.5, lambda window: left_to_right.expand_as(window).clone()
    )[0, 0, 8]
    expected = [1 / (1 + exp(((x - 15.5) ** 2 - (x - 7.5) ** 2) / (2 * 2**2))) for x in range(9, 15)]
    assert expected[2] == pytest.approx(1 / (1 + exp((4.5**2 - 3.5**2) / 8)))
    assert line[9:15].tolist() == pytest.approx(expected, rel=1e-4)
