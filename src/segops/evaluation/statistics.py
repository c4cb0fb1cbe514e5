"""Intervals and tests whose units are groups, because images of one field or patient aren't independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.scores import Interval

_BLOCK = 2**22  # drawn group counts held at once
_DECIMALS = 9
_P_DECIMALS = 12

Values = Sequence[float] | npt.NDArray[Any]
Groups = Sequence[str] | npt.NDArray[Any]


def bootstrap_mean(values: Values, groups: Groups, *, resamples: int, confidence: float, seed: int) -> Interval:
    """The mean of `values` and its percentile interval over resampled groups (Efron and Tibshirani 1993, ch. 13).

    Each resample draws as many groups as there are, with replacement, and takes the mean over all their values: a
    ratio of sums, so a larger group weighs more. With one group the interval has no width: nothing is known of others.

    Args:
        values: one an image.
        groups: the group of each image.

    Raises:
        ValueError: no values, or lengths that differ.
    """
    numbers = np.asarray(values, np.float64)
    if not len(numbers) or len(numbers) != len(groups):
        raise ValueError(f"{len(numbers)} values and {len(groups)} groups: give one group a value, and at least one")
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(member, numbers), np.bincount(member)
    means = _resampled_means(sums, sizes, resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean=_plain(numbers.mean()), low=_plain(low), high=_plain(high))


def paired_difference(
    a: Values, b: Values, groups: Groups, *, resamples: int, confidence: float, seed: int
) -> Interval:
    """The mean of a - b on the same images, with its interval over resampled groups; above 0, `a` is larger."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values can't be paired")
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return bootstrap_mean(difference, groups, resamples=resamples, confidence=confidence, seed=seed)


class SignedRank(NamedTuple):
    """Wilcoxon's signed-rank test and its effect size.

    Attributes:
        p: two-sided; None where there are too few groups for any p below the level.
        effect: matched-pairs rank-biserial correlation, -1..1; None where no group differs.
        reason: why there is no p.
    """

    p: float | None
    effect: float | None
    reason: str | None


def signed_rank(differences: Values, groups: Groups, *, level: float) -> SignedRank:
    """Wilcoxon's signed-rank test of the groups' mean differences against 0.

    Groups whose mean is 0 are left out (Wilcoxon 1945; SciPy's zero_method `wilcox`). p is exact for up to 50 groups
    without ties and up to 13 with them, else by the normal approximation with the correction for ties. The effect is
    (W+ - W-) / (W+ + W-), W the sums of ranks of one sign (Kerby 2014, "The simple difference formula").

    Args:
        differences: a - b, one an image.
        groups: the group of each image.
        level: of the test. Of n groups that differ the smallest possible p is 2 ** (1 - n).
    """
    from scipy.stats import rankdata, wilcoxon

    _, member = np.unique(np.asarray(groups), return_inverse=True)
    means = np.bincount(member, np.asarray(differences, np.float64)) / np.bincount(member)
    means = means.round(_DECIMALS)  # equal up to the order of summation is equal
    means = means[means != 0]
    if not len(means):
        return SignedRank(None, None, "no group differs")
    ranks = rankdata(np.abs(means))
    effect = _plain((ranks * np.sign(means)).sum() / ranks.sum())
    if (smallest := 2.0 ** (1 - len(means))) >= level:
        noun = "group differs" if len(means) == 1 else "groups differ"
        return SignedRank(None, effect, f"{len(means)} {noun}: no p below {smallest:g} is possible")
    return SignedRank(_plain(wilcoxon(means).pvalue, _P_DECIMALS), effect, None)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p adjusted for their number, so that the chance of any false rejection stays below the level (Holm 1979).

    None, a test that can't reject, counts in the number and stays None.
    """
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rejected, (p, index) in enumerate(sorted((p, index) for index, p in enumerate(ps) if p is not None)):
        largest = max(largest, min(1.0, (len(ps) - rejected) * p))
        adjusted[index] = _plain(largest, _P_DECIMALS)
    return adjusted


def _resampled_means(
    sums: npt.NDArray[Any], sizes: npt.NDArray[Any], resamples: int, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The mean of each resample; how often a group is drawn follows a multinomial distribution."""
    groups = len(sums)
    chance = np.full(groups, 1 / groups)
    means = []
    for begin in range(0, resamples, step := max(1, _BLOCK // groups)):
        drawn = random.multinomial(groups, chance, size=min(step, resamples - begin))
        means.append((drawn @ sums) / (drawn @ sizes))
    return np.concatenate(means)


def _plain(value: Any, decimals: int = _DECIMALS) -> float:
    """Nine decimals: enough to read, and free of the last bits that the order of a sum decides."""
    return round(float(value), decimals) + 0.0
