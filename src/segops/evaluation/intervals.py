"""Intervals and tests whose units are groups, because images of one field or patient aren't independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.contracts.scores import Interval

_DECIMALS = 9
_P_DECIMALS = 12
_ROUNDING = 1e-6
_SKEWNESS = 3.7
SHARE = (0.0, 1.0)  # bounds of a score
SHARE_DIFFERENCE = (-1.0, 1.0)

Values = Sequence[float] | npt.NDArray[Any]
Groups = Sequence[str] | npt.NDArray[Any]


def group_interval(
    values: Values, groups: Groups, *, confidence: float, bounds: tuple[float, float] = SHARE
) -> Interval:
    """Return the mean of `values` and its interval over groups.

    The groups are the units, since images of one group aren't independent.

    It is a t interval whose quantile is widened for skewed groups: each end misses the truth in at most half of
    1 - `confidence` for 2 groups and up; `half_widths` says how, docs/explanation/statistics.md for which groups. With
    one group there is no interval.

    Args:
        values: one per image, none missing.
        groups: the group of each image.
        bounds: what a value can be; the interval ends there.

    Raises:
        ValueError: no values, lengths that differ, or a value that isn't a number within the bounds.
    """
    numbers = np.asarray(values, np.float64)
    if not len(numbers) or len(numbers) != len(groups):
        raise ValueError(f"{len(numbers)} values and {len(groups)} groups: give one group a value, and at least one")
    least, most = bounds
    if not np.all((numbers >= least - _ROUNDING) & (numbers <= most + _ROUNDING)):
        raise ValueError(f"values must be numbers from {least:g} to {most:g}; leave undefined ones out")
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(member)
    mean = _plain(numbers.mean())
    if len(sizes) == 1:
        return Interval(mean=mean, low=None, high=None, groups=1)
    means, weights = np.bincount(member, numbers) / sizes, sizes / sizes.sum()
    half = float(half_widths(means[None], weights[None], confidence)[0])
    low, high = _plain(max(least, mean - half)), _plain(min(most, mean + half))
    return Interval(mean=mean, low=min(low, mean), high=max(high, mean), groups=len(sizes))


def half_widths(means_RG: npt.NDArray[Any], weights_RG: npt.NDArray[Any], confidence: float) -> npt.NDArray[np.float64]:
    """Return half the width of each row's interval: R samples of G groups (2 at least).

    It is a function of its own so that many samples can be tried.

    The estimate is the sum of the group means m, each with its share w of the images. Its variance is the larger of
    two estimates: s^2 sum w^2 with the groups' variance s^2, and G / (G - 1) sum w^2 (m - estimate)^2, the linearized
    one of a ratio of sums (Cochran 1977, section 6.3), which holds where larger groups score differently. The quantile
    t of G - 1 degrees of freedom is widened to both sides by the first-order correction for skewness (Johnson 1978,
    "Modified t tests and confidence intervals for asymmetrical populations"): with equal weights by
    g (2 t^2 + 1) / (6 sqrt G). The skewness g is fixed, since few groups don't show theirs; 3.7 is the smallest with
    which each end holds for exponential and lognormal groups, of skewness 2 and 3.3 (`benchmarks.interval_coverage`).
    For unequal weights the two parts of the third moment, sum w^3 and its correlation with s^2, have opposite signs;
    the larger one counts.
    """
    from scipy.stats import t as student

    groups = means_RG.shape[1]
    centre_R1 = (weights_RG * means_RG).sum(axis=1, keepdims=True)
    squares_R = (weights_RG**2).sum(axis=1)
    equal_R = means_RG.var(axis=1, ddof=1) * squares_R
    linear_R = groups / (groups - 1) * (weights_RG**2 * (means_RG - centre_R1) ** 2).sum(axis=1)
    own_R = (weights_RG**3).sum(axis=1) / squares_R**1.5
    shared_R = 1 / (groups * np.sqrt(squares_R))
    t = float(student.ppf((1 + confidence) / 2, groups - 1))
    third_R = np.maximum(2 * shared_R, own_R - 3 * shared_R)
    wider_R = _SKEWNESS * (shared_R / 2 + third_R * max(0, t**2 - 1) / 6)
    half_R: npt.NDArray[np.float64] = (t + wider_R) * np.sqrt(np.maximum(equal_R, linear_R))
    return half_R


class SignedRank(NamedTuple):
    """Holds the result of Wilcoxon's signed-rank test and its effect size.

    Attributes:
        p: two-sided; None where there are too few groups for any p below the level.
        effect: matched-pairs rank-biserial correlation, -1..1; None where no group differs.
        reason: why there is no p.
    """

    p: float | None
    effect: float | None
    reason: str | None


def signed_rank(differences: Values, groups: Groups, *, level: float) -> SignedRank:
    """Test the groups' mean differences against 0 by Wilcoxon's signed-rank test.

    Groups whose mean is 0 are left out (Wilcoxon 1945; SciPy's zero_method `wilcox`). p is exact for up to 50 groups
    without ties and up to 13 with them, else by the normal approximation with the correction for ties. The effect is
    (W+ - W-) / (W+ + W-), W the sums of ranks of one sign (Kerby 2014, "The simple difference formula").

    Args:
        differences: a - b, one per image.
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
    """Adjust p-values for their number: the chance of any false rejection stays below the level (Holm 1979).

    None, a test that can't reject, counts in the number and stays None.
    """
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rejected, (p, index) in enumerate(sorted((p, index) for index, p in enumerate(ps) if p is not None)):
        largest = max(largest, min(1.0, (len(ps) - rejected) * p))
        adjusted[index] = _plain(largest, _P_DECIMALS)
    return adjusted


def _plain(value: Any, decimals: int = _DECIMALS) -> float:
    """Round to nine decimals: enough to read, and free of the last bits that the order of a sum decides."""
    return round(float(value), decimals) + 0.0
