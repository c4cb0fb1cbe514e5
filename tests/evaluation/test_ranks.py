"""Areas under curves from the exact order of probabilities, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from segops.evaluation import ranks
from segops.evaluation.ranks import RankTally


def tally(*images: tuple[list[float], list[int]]) -> RankTally:
    counted = RankTally()
    for probabilities, truth in images:
        counted.add(np.array([probabilities], np.float32), np.array([truth], np.uint8))
    return counted


def areas(*images: tuple[list[float], list[int]]) -> tuple[float | None, float | None]:
    counted = tally(*images)
    return counted.pr_auc(), counted.roc_auc()


def test_areas_are_sums_over_the_order_of_probabilities() -> None:
    # From 1 down: a hit (precision 1), a miss, a hit (2/3), a miss. 1/2 x 1 + 1/2 x 2/3; half of the misses come after
    # the first hit alone, the other half after both: 1/2 x 1/2 + 1/2 x 1.
    assert areas(([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0])) == (0.833333333, 0.75)
    # The same pixels in any order and in any number of images.
    assert areas(([0.1, 0.7], [0, 1]), ([0.8], [0]), ([0.9], [2])) == (0.833333333, 0.75)


def test_areas_have_nine_decimals() -> None:
    # Misses after 1, 3 and 3 of 3 hits: 1/3 x (1/3 + 1 + 1) = 7/9. Precision 1, 2/3, 3/4: 1/3 x 29/12 = 29/36.
    assert areas(([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1, 0, 1, 1, 0, 0])) == (0.805555556, 0.777777778)


def test_a_perfect_order_scores_1_and_the_reverse_0() -> None:
    assert areas(([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0])) == (1.0, 1.0)
    # Hits after two misses: precision 1/3, then 2/4.
    assert areas(([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1])) == (0.416666667, 0.0)


def test_ties_count_a_half() -> None:
    assert areas(([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0])) == (0.25, 0.5)


def test_values_within_a_hair_of_0_are_kept_apart_and_minus_0_is_0() -> None:
    assert areas(([2e-30, 1e-30], [1, 0])) == (1.0, 1.0)
    assert areas(([-0.0, 0.0], [1, 0])) == (0.5, 0.5)
    assert areas(([1e-45, -0.0], [1, 0])) == (1.0, 1.0)


def test_without_positives_or_negatives_areas_are_undefined() -> None:
    assert areas() == (None, None)
    assert areas(([0.9, 0.1], [0, 0])) == (None, None)
    assert areas(([0.9, 0.1], [1, 1])) == (1.0, None)


SIX = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_more_values_than_the_limit_share_bins_that_are_fine_at_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "LIMIT", 4)
    monkeypatch.setattr(ranks, "FINENESS", 2)
    # Of six positives 6, 5, 4, 3, 2, 1 lie at or above; floor(2 ln) of these is 3, 3, 2, 2, 1, 0. So 0.2, 0.4, 0.5 and
    # 0.6 stand for 2, 2, 1 and 1 pixels. Two negatives aren't more than the limit. From 1 down tp/(tp + fp) is 1,
    # (0.55), 2/3, 4/5, 6/7 at shares of 1/6, 1/6, 2/6, 2/6: 1/6 + 1/9 + 4/15 + 2/7.
    merged = areas((SIX, [1] * 6), ([0.55, 0.15], [0, 0]))
    assert merged[0] == 0.830158730
    # The miss at 0.55 comes after one hit of six, the one at 0.15 after all.
    assert merged[1] == pytest.approx((1 / 6 + 1) / 2, abs=1e-9)


def test_as_many_values_as_the_limit_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "LIMIT", 6)
    monkeypatch.setattr(ranks, "FINENESS", 1)
    # Precision 1, 2/3, 3/4, 4/5, 5/6, 6/8 at sixths.
    exact = (1 + 2 / 3 + 3 / 4 + 4 / 5 + 5 / 6 + 6 / 8) / 6
    assert areas((SIX, [1] * 6), ([0.55, 0.15], [0, 0]))[0] == pytest.approx(exact, abs=1e-9)


def test_a_million_values_are_kept_apart_and_more_share_a_bin_with_a_hundred_thousandth_of_those_above() -> None:
    million = 2**20
    bits = np.arange(1, 2 + million, dtype=np.uint32)
    histogram = ranks._Histogram()
    histogram.add(bits[:million])
    assert len(histogram.settled()[0]) == million
    histogram.add(bits[million:])
    above = np.arange(1, 2 + million)
    kept, counts = histogram.settled()
    assert len(kept) == len(np.unique(np.floor(100_000 * np.log(above))))
    assert counts.sum() == len(bits)


def test_memory_is_bounded_whatever_the_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "LIMIT", 64)
    monkeypatch.setattr(ranks, "FINENESS", 10)
    histogram = ranks._Histogram()
    for image in range(50):
        histogram.add(np.arange(40 * image, 40 * (image + 1), dtype=np.uint32))
        assert sum(len(values) for values, _ in histogram._waiting) <= 64
    assert histogram.settled()[1].sum() == 2000


def test_bins_are_laid_by_how_many_pixels_lie_at_or_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "LIMIT", 4)
    monkeypatch.setattr(ranks, "FINENESS", 2)
    histogram = ranks._Histogram()
    histogram.add(np.array([1, 2, 3, 4, 5, 6, 6, 6, 6], np.uint32))
    # At or above: 9, 8, 7, 6, 5, 4 pixels; floor(2 ln) of these is 4, 4, 3, 3, 3, 2.
    bits, counts = histogram.settled()
    assert (bits.tolist(), counts.tolist()) == ([2, 5, 6], [2, 3, 4])
