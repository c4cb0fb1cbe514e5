"""Overlapping windows and their blending."""

from __future__ import annotations

from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segops.inference.windows import WindowRule, blend_windows, window_axis


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


def window(rule: WindowRule, height: int, width: int) -> tuple[int, int]:
    window_h, window_w = rule.window_hw((torch.tensor(height), torch.tensor(width)))
    return int(window_h), int(window_w)


def test_an_image_with_a_side_beyond_twice_the_largest_is_cut_to_the_median_size() -> None:
    rule = WindowRule.of_resized((30, 50), (40, 60), 0.25)  # up to 100 x 120 is one window
    assert window(rule, 100, 120) == (100, 120)
    assert window(rule, 101, 120) == (30, 40)
    assert window(rule, 100, 121) == (30, 40)
    assert window(rule, 101, 121) == (30, 40)
    # No window is larger than the image.
    assert window(rule, 20, 121) == (20, 40)
    assert window(rule, 101, 20) == (30, 20)


def test_native_pixels_are_cut_to_windows_of_one_size_whatever_the_image() -> None:
    rule = WindowRule((24, 32), None, 0.25)
    assert [window(rule, *image_hw) for image_hw in ((10, 10), (24, 32), (500, 20))] == [(24, 32)] * 3


def test_each_pixel_of_a_window_weighs_something_and_no_pixel_beyond_it_does() -> None:
    axis = window_axis(10, torch.tensor(4), 0.5)
    assert axis.start_n.tolist() == [0, 2, 4, 6]
    inside = [[first <= pixel < first + 4 for pixel in range(10)] for first in (0, 2, 4, 6)]
    assert (axis.weight_nL > 0).tolist() == inside
