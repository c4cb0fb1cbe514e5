"""Intervals and tests over groups."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from segops.contracts.scores import Interval
from segops.evaluation.intervals import SHARE_DIFFERENCE, group_interval, half_widths, holm, signed_rank


def test_an_interval_of_three_equal_groups_is_students_widened_for_skewness() -> None:
    # Group means 0.49, 0.50, 0.51: variance 0.0001, standard error 0.01 / sqrt(3) = 0.0057735. t with 2 degrees of
    # freedom is 4.302653 at 97.5 %, t^2 is 18.512821; widened by 3.7 (2 t^2 + 1) / (6 sqrt(3)) = 13.538366 it is
    # 17.841019.
    interval = group_interval([0.48, 0.50, 0.50, 0.50, 0.52, 0.50], list("aabbcc"), confidence=0.95)
    assert interval.words(6) == "0.500000 (0.396995 to 0.603005)"


def test_an_interval_of_unequal_groups_has_the_larger_of_two_variances() -> None:
    # At a confidence of 50 % and 2 groups t is 1, which leaves of the widening its first part,
    # 3.7/2 / (2 sqrt(sum w^2)). Sizes 3 and 1: weights 3/4 and 1/4, sum w^2 = 5/8, widening 0.925 / sqrt(5/8). Means
    # 0.40 and 0.44, variance of the means 0.0008, times 5/8 is 0.0005. Linearized: 2 (9/16 * 0.01^2 + 1/16 * 0.03^2) =
    # 0.000225, which is smaller.
    interval = group_interval([0.38, 0.40, 0.42, 0.44], list("aaab"), confidence=0.5000001)
    half = (1 + 0.925 / (5 / 8) ** 0.5) * 0.0005**0.5
    assert interval.words(5) == f"0.41000 ({0.41 - half:.5f} to {0.41 + half:.5f})"
    # Sizes 1, 1 and 2, means 0.4, 0.4 and 0.8, mean 0.6: every group lies 0.2 away. The variance of the means is
    # 0.16 / 3, times 3/8 is 0.02; linearized 3/2 * 3/8 * 0.2^2 = 0.0225, which is larger.
    means, weights = np.array([[0.4, 0.4, 0.8]]), np.array([[0.25, 0.25, 0.5]])
    t, wider = 0.8164966, 3.7 / 2 / (3 * (3 / 8) ** 0.5)  # t of 2 degrees of freedom at 75 %, below 1 again
    assert half_widths(means, weights, 0.5)[0] == pytest.approx((t + wider) * 0.15)


def test_the_mean_is_over_images_and_the_units_are_groups() -> None:
    random = np.random.default_rng(0)
    values, groups = random.random(30), [f"g{i // 2}" for i in range(30)]
    once = group_interval(values, groups, confidence=0.9)
    tenfold = group_interval(np.repeat(values, 10), np.repeat(groups, 10), confidence=0.9)
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))
    assert group_interval([1.0, 0.0, 0.0, 0.0], list("abbb"), confidence=0.9).mean == 0.25


def test_an_interval_ends_at_the_bounds() -> None:
    assert group_interval([0.9, 1.0], ["a", "b"], confidence=0.95).words() == "0.950 (0.000 to 1.000)"
    interval = group_interval([-1.0, 1.0], ["a", "b"], confidence=0.95, bounds=SHARE_DIFFERENCE)
    assert interval.words(1, signed=True) == "+0.0 (-1.0 to +1.0)"


def test_one_group_has_no_interval() -> None:
    assert group_interval([0.2, 0.4], ["a", "a"], confidence=0.95) == Interval(mean=0.3, low=None, high=None, groups=1)
    assert group_interval([0.897], ["a"], confidence=0.95).words() == "0.897 (1 group)"


@pytest.mark.parametrize(("low", "high", "groups"), [(0.4, 0.6, 1), (None, None, 2), (0.4, None, 2), (0.51, 0.6, 2)])
def test_an_interval_without_sense_cannot_be_made(low: float | None, high: float | None, groups: int) -> None:
    with pytest.raises(ValidationError, match=r"two ends from 2 groups on|lies outside"):
        Interval(mean=0.5, low=low, high=high, groups=groups)


def test_a_paired_difference_sees_what_two_intervals_hide() -> None:
    random = np.random.default_rng(2)
    b = random.uniform(0.3, 0.9, 40)
    a = b + random.normal(0.02, 0.005, 40)
    groups = [str(i) for i in range(40)]
    assert group_interval(a - b, groups, confidence=0.9, bounds=SHARE_DIFFERENCE).side == 1
    own, other = (group_interval(values, groups, confidence=0.9) for values in (a, b))
    assert own.low is not None
    assert other.high is not None
    assert own.low < other.high


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        group_interval([], [], confidence=0.95)
    with pytest.raises(ValueError, match="2 values and 1 groups"):
        group_interval([1.0, 2.0], ["a"], confidence=0.95)
    for wrong in (float("nan"), 1.1, -0.1):
        with pytest.raises(ValueError, match="numbers from 0 to 1; leave undefined ones out"):
            group_interval([0.5, wrong], ["a", "b"], confidence=0.95)


def test_the_signed_rank_test_is_that_of_all_signs() -> None:
    # Ranks 1 to 6, of which 3 is negative: W- = 3. Of the 64 ways to give signs 5 have W- of 3 or less: none, 1, 2, 3
    # and 1 + 2; twice that for both sides. Effect: (18 - 3) / 21.
    means = [0.1, 0.2, -0.3, 0.4, 0.5, 0.6]
    found = signed_rank(means, list("abcdef"), level=0.05)
    assert (found.p, found.reason) == (10 / 64, None)
    assert found.effect == pytest.approx(15 / 21)
    # Groups count, not images; g has no difference in the mean and is left out.
    values = [one + shift for one in means for shift in (-0.05, 0.05)] + [0.2, -0.2]
    assert signed_rank(values, list("aabbccddeeffgg"), level=0.05) == found


def test_too_few_groups_have_an_effect_and_no_p() -> None:
    found = signed_rank([0.1, 0.2, 0.3, 0.4, 0.5, 0.0], list("abcdef"), level=0.05)
    assert (found.p, found.effect) == (None, 1.0)
    assert found.reason == "5 groups differ: no p below 0.0625 is possible"
    assert signed_rank([0.1], ["a"], level=0.05).reason == "1 group differs: no p below 1 is possible"
    assert signed_rank([-0.1, -0.2, -0.3, -0.4, -0.5], list("abcde"), level=0.1)[:2] == (2 / 32, -1.0)
    assert signed_rank([0.0, 0.0], ["a", "b"], level=0.05) == (None, None, "no group differs")


def test_holm_takes_the_smallest_p_times_all_and_never_lets_a_larger_one_be_below() -> None:
    # In order: 0.01 * 4, 0.03 * 3, then 0.04 * 2 = 0.08, which must not be below 0.09. The test without a p counts.
    assert holm([0.01, 0.04, 0.03, None]) == [pytest.approx(0.04), pytest.approx(0.09), pytest.approx(0.09), None]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_figures_have_nine_decimals_and_ps_twelve() -> None:
    interval = group_interval([0.0, 0.0, 1.0], list("abc"), confidence=0.95)
    assert interval.mean == 0.333333333
    assert signed_rank([-0.1, 0.2, 0.3], list("abc"), level=0.5).effect == 0.666666667
    # 14 groups of one sign: 2 of 2^14 ways, 0.0001220703125.
    assert signed_rank([i / 100 for i in range(1, 15)], list("abcdefghijklmn"), level=0.05).p == 0.000122070312


def test_nothing_is_never_minus_0() -> None:
    interval = group_interval([-1e-12, -1e-12], ["a", "b"], confidence=0.95, bounds=SHARE_DIFFERENCE)
    assert [str(one) for one in (interval.mean, interval.low, interval.high)] == ["0.0"] * 3


@pytest.mark.parametrize(("value", "allowed"), [(-1e-6, True), (-1.5e-6, False), (1 + 1e-6, True), (1 + 1.5e-6, False)])
def test_a_millionth_beyond_the_bounds_is_rounding(value: float, allowed: bool) -> None:
    if allowed:
        assert group_interval([value, 0.5], ["a", "b"], confidence=0.95).groups == 2
    else:
        with pytest.raises(ValueError, match="numbers from 0 to 1"):
            group_interval([value, 0.5], ["a", "b"], confidence=0.95)


def test_one_group_of_most_images_is_widened_by_its_own_third_moment() -> None:
    # Weights 0.91 and nine of 0.01: sum w^2 = 0.829, sum w^3 = 0.75358. The third moment is 0.75358 / 0.829^1.5 less
    # three times 1 / (10 sqrt(0.829)), which is more than twice that. t of 9 degrees of freedom is 2.2621572.
    # Means 0.6 and nine of 0.5: variance 0.001, times 0.829; the linearized one is 0.0000828.
    own, shared = 0.75358 / 0.829**1.5, 1 / (10 * 0.829**0.5)
    wider = 3.7 * (shared / 2 + (own - 3 * shared) * (2.2621572**2 - 1) / 6)
    found = half_widths(np.array([[0.6] + [0.5] * 9]), np.array([[0.91] + [0.01] * 9]), 0.95)
    assert found[0] == pytest.approx((2.2621572 + wider) * (0.001 * 0.829) ** 0.5, rel=1e-6)


def test_samples_that_are_tried_together_are_as_each_alone() -> None:
    random = np.random.default_rng(3)
    means_RG, weights_RG = random.random((3, 3)), np.array([[0.2, 0.3, 0.5], [0.8, 0.1, 0.1], [1 / 3] * 3])
    alone = [half_widths(means_RG[[row]], weights_RG[[row]], 0.95)[0] for row in range(3)]
    assert half_widths(means_RG, weights_RG, 0.95).tolist() == pytest.approx(alone)


def test_ranks_are_of_group_means_however_many_images_a_group_has() -> None:
    """Group a of three images lies 0.1 higher, group b of one 0.2 lower: ranks 1 and 2, (1 - 2) / 3."""
    found = signed_rank([0.1, 0.1, 0.1, -0.2], list("aaab"), level=0.05)
    assert found.effect == -0.333333333


def test_groups_whose_smallest_p_is_the_level_itself_cannot_reject() -> None:
    found = signed_rank([0.1, 0.2, 0.3, 0.4, 0.5], list("abcde"), level=2**-4)
    assert (found.p, found.reason) == (None, "5 groups differ: no p below 0.0625 is possible")
