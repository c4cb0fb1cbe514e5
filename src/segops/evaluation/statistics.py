"""Bootstrap intervals that resample groups, because images of one field or patient aren't independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.scores import Interval

_BLOCK = 2**22  # drawn group counts held at once

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


def _plain(value: Any) -> float:
    """Nine decimals: enough to read, and free of the last bits that the order of a sum decides."""
    return round(float(value), 9) + 0.0
