"""Bootstrap intervals over groups."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

from segops.evaluation.statistics import bootstrap_mean, holm, paired_difference, signed_rank
from segops.scores import Interval


def interval(values: Sequence[float] | np.ndarray[Any, Any], groups: Sequence[str], **changed: Any) -> Interval:
    settings: dict[str, Any] = {"resamples": 4000, "confidence": 0.9, "seed": 1, **changed}
    return bootstrap_mean(values, groups, **settings)


def test_the_interval_of_three_groups_is_that_of_all_27_resamples() -> None:
    sums, sizes = np.array([1.0, 1.2, 0.3]), np.array([2, 3, 1])
    groups = list("aabbbc")
    values = [0.4, 0.6, 0.3, 0.4, 0.5, 0.3]
    means = sorted(sums[list(drawn)].sum() / sizes[list(drawn)].sum() for drawn in product(range(3), repeat=3))
    # With 90 % the tails of 5 % fall on the two extreme resamples: one of 27 each is 3.7 %, then comes the next value.
    found = interval(values, groups, resamples=20_000)
    assert found.mean == pytest.approx(2.5 / 6)
    assert found.low == pytest.approx(means[1])
    assert found.high == pytest.approx(means[-2])


def test_more_images_in_the_same_groups_do_not_narrow_the_interval() -> None:
    random = np.random.default_rng(0)
    values, groups = random.random(30), [f"g{i // 2}" for i in range(30)]
    once = interval(values, groups)
    tenfold = interval(np.repeat(values, 10), [group for group in groups for _ in range(10)])
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))
    alone = interval(values, [str(i) for i in range(30)])
    repeated = interval(np.repeat(values, 10), [str(i) for i in range(300)])
    assert repeated.high - repeated.low < 0.5 * (alone.high - alone.low)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        by_group = random.normal(0.8, 0.05, 30)
        values = np.repeat(by_group, 4) + random.normal(0, 0.02, 120)
        found = interval(values, [str(i // 4) for i in range(120)], resamples=400, seed=trial)
        hits += found.low <= 0.8 <= found.high
    assert 0.82 <= hits / 200 <= 0.96  # nominally 0.90; a percentile interval is a little narrow


def test_one_seed_gives_one_interval() -> None:
    values, groups = np.random.default_rng(0).random(20), [str(i // 2) for i in range(20)]
    assert interval(values, groups) == interval(values, groups)
    assert interval(values, groups) != interval(values, groups, seed=2)


def test_the_order_and_the_names_of_groups_do_not_matter_for_the_mean() -> None:
    assert interval([1.0, 0.0, 0.0, 0.0], list("abbb")).mean == 0.25


def test_one_group_gives_no_width() -> None:
    assert interval([0.2, 0.4], ["a", "a"]) == Interval(mean=0.3, low=0.3, high=0.3)


def test_a_paired_difference_sees_what_two_intervals_hide() -> None:
    random = np.random.default_rng(2)
    b = random.uniform(0.3, 0.9, 40)
    a = b + random.normal(0.02, 0.005, 40)
    groups = [str(i) for i in range(40)]
    found = paired_difference(a, b, groups, resamples=2000, confidence=0.95, seed=0)
    assert found.mean == pytest.approx((a - b).mean())
    assert found.low > 0
    assert interval(a, groups).low < interval(b, groups).high


def test_equal_scores_differ_by_exactly_nothing() -> None:
    a = [0.1, 0.5, 0.9]
    assert paired_difference(a, a, list("abc"), resamples=100, confidence=0.9, seed=0) == Interval(
        mean=0, low=0, high=0
    )


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        interval([], [])
    with pytest.raises(ValueError, match="2 values and 1 groups"):
        interval([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="can't be paired"):
        paired_difference([1.0], [1.0, 2.0], ["a"], resamples=100, confidence=0.9, seed=0)


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
