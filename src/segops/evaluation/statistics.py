"""Intervals and tests whose units are groups, because images of one field or patient aren't independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.scores import Interval

_DECIMALS = 9
_P_DECIMALS = 12
_ROUNDING = 1e-6
SHARE = (0.0, 1.0)  # bounds of a score
SHARE_DIFFERENCE = (-1.0, 1.0)

Values = Sequence[float] | npt.NDArray[Any]
Groups = Sequence[str] | npt.NDArray[Any]


def group_interval(
    values: Values, groups: Groups, *, confidence: float, bounds: tuple[float, float] = SHARE
) -> Interval:
    """The mean of `values` and its t interval over groups, which are the units: images of one group aren't independent.

    The mean over images is that of the groups' means, each weighted by its share of the images. Its variance is the
    larger of two estimates: that of equally uncertain group means, and the linearized one of a ratio of sums (Cochran
    1977, section 6.3), which larger groups decide. With one group there is no interval.

    Args:
        values: one an image, none missing.
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
    half = _half_width(np.bincount(member, numbers) / sizes, sizes / sizes.sum(), confidence)
    low, high = _plain(max(least, mean - half)), _plain(min(most, mean + half))
    return Interval(mean=mean, low=min(low, mean), high=max(high, mean), groups=len(sizes))


def _half_width(means: npt.NDArray[Any], weights: npt.NDArray[Any], confidence: float) -> float:
    from scipy.stats import t

    groups = len(means)
    equal = means.var(ddof=1) * (weights**2).sum()
    linear = groups / (groups - 1) * (weights**2 * (means - weights @ means) ** 2).sum()
    return float(t.ppf((1 + confidence) / 2, groups - 1) * np.sqrt(max(equal, linear)))


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


def _plain(value: Any, decimals: int = _DECIMALS) -> float:
    """Nine decimals: enough to read, and free of the last bits that the order of a sum decides."""
    return round(float(value), decimals) + 0.0
