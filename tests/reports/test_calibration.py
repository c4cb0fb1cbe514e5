"""Reliability and the expected calibration error, with answers worked out by hand."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from segops.evaluation.calibration import BINS, ReliabilityTally, confidence_of, reliability_table
from segops.reports.charts.reliability import draw_bins, reliability


def test_two_bins_by_hand() -> None:
    tally = ReliabilityTally()
    # Four pixels of 0.1 with one foreground: |1/4 - 0.1|. One of 0.9 that is foreground: |1 - 0.9|.
    tally.add(np.array([[[0.1, 0.1, 0.1, 0.1, 0.9]]], np.float32), np.array([[0, 1, 0, 0, 1]]))
    assert tally.ece() == pytest.approx((4 * 0.15 + 1 * 0.1) / 5, abs=1e-6)
    filled = {at: one for at, one in enumerate(tally.bins()) if one.pixels}
    assert list(filled) == [1, 13]  # (1/15, 2/15] and (13/15, 14/15]
    assert (filled[1].pixels, filled[1].frequency) == (4, 0.25)
    assert filled[1].confidence == pytest.approx(0.1)
    assert (tally.bins()[0].confidence, tally.bins()[0].frequency) == (None, None)


def test_bins_hold_their_upper_end_and_the_first_holds_0() -> None:
    tally = ReliabilityTally()
    tally.add(np.array([[[0.0, 0.2, 1.0]]], np.float64), np.array([[0, 0, 1]]))
    assert [at for at, one in enumerate(tally.bins()) if one.pixels] == [0, 2, 14]
    third = tally.bins()[2]
    assert [third.low, third.high] == pytest.approx([2 / 15, 3 / 15])


def test_of_several_classes_the_likeliest_counts() -> None:
    probability_KHW = np.array([[[0.6, 0.2]], [[0.3, 0.7]], [[0.1, 0.1]]], np.float32)
    assert confidence_of(probability_KHW).tolist() == [[pytest.approx(0.6), pytest.approx(0.7)]]
    tally = ReliabilityTally()
    tally.add(probability_KHW, np.array([[0, 2]]))  # the first is right, the second isn't
    assert tally.ece() == pytest.approx((0.4 + 0.7) / 2, abs=1e-6)


def test_a_calibrated_predictor_has_no_error_and_a_sure_wrong_one_has_all() -> None:
    halves = ReliabilityTally()
    halves.add(np.full((1, 2, 2), 0.5, np.float32), np.array([[0, 1], [1, 0]]))
    assert halves.ece() == 0
    wrong = ReliabilityTally()
    wrong.add(np.ones((1, 2, 2), np.float32), np.zeros((2, 2)))
    assert wrong.ece() == 1
    with pytest.raises(ValueError, match="at least one image"):
        ReliabilityTally().ece()


@given(st.integers(0, 2**32 - 1))
def test_bins_hold_every_pixel_and_image_by_image_is_the_same(seed: int) -> None:
    random = np.random.default_rng(seed)
    probability, truth = random.random((1, 6, 8), np.float32), random.integers(0, 2, (6, 8))
    once, parts = ReliabilityTally(), ReliabilityTally()
    once.add(probability, truth)
    for row in range(6):
        parts.add(probability[:, row : row + 1], truth[row : row + 1])
    assert sum(one.pixels for one in once.bins()) == 48
    assert len(once.bins()) == BINS
    assert once.ece() == pytest.approx(parts.ece(), abs=1e-8)
    assert 0 <= once.ece() <= 1
    for one in once.bins():
        if one.confidence is not None:
            assert one.low - 1e-9 <= one.confidence <= one.high + 1e-9


def test_table_and_curve_leave_empty_bins_out() -> None:
    tally = ReliabilityTally()
    tally.add(np.array([[[0.1, 0.9]]], np.float32), np.array([[0, 1]]))
    table = reliability_table({"val": tally.bins(), "test": tally.bins()})
    assert len(table) == 2 * BINS
    assert table["pixels"].tolist() == ([0, 1] + [0] * 11 + [1, 0]) * 2
    assert math.isnan(table["frequency"][0])
    curve = reliability({"small": {"val": tally.bins(), "test": ReliabilityTally().bins()}})
    assert re.findall("<title>(.*)</title>", curve) == [
        "small: 1 pixels above 0.07, confidence 0.100, frequency 0.000",
        "small: 1 pixels above 0.87, confidence 0.900, frequency 1.000",
    ]
    axes = Figure().add_subplot()
    draw_bins(axes, tally.bins(), "small", "black")
    (line,) = axes.get_lines()
    assert np.asarray(line.get_xydata()) == pytest.approx(np.array([[0.1, 0], [0.9, 1]]))
