"""Are new images like those that a model was made for? Each feature's distribution against the reference's.

A feature drifts when the Kolmogorov-Smirnov distance of new images from the reference is large, and its p-value small
after Holm's correction (Holm 1979): of many images every difference is significant, of few none is. Images of one
group aren't independent, so a reference counts as many observations as it has groups, and predictions on few groups
judge nothing: another known group would be called unlike them. The groups of new images aren't known; p takes each for
one, and the distance says how much it matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from segops.contracts.usage import FeatureDrift, Reference, UnusualImage
from segops.evaluation.intervals import holm
from segops.params.drift import DriftParams
from segops.params.promote import FEWEST_GROUPS

_USUAL = (0.005, 0.995)  # an image outside these shares of the reference has an unusual feature
_SMALLEST_STD = 1e-9


def compare_features(
    reference: Reference, rows: Sequence[Mapping[str, float]], params: DriftParams
) -> list[FeatureDrift]:
    """Compare the distribution of every feature of the reference with that of new images.

    Args:
        rows: features of new images; at least two.
    """
    found = {
        name: _measure(points, [row[name] for row in rows], groups)
        for points_of, groups in (
            (reference.of_images, reference.training_groups),
            (reference.of_predictions, reference.validation_groups),
        )
        for name, points in points_of.items()
    }
    reason = few_groups(reference)
    judged = [name for name in found if reason is None or name in reference.of_images]
    adjusted = dict(zip(judged, holm([found[name].p for name in judged]), strict=True))
    return [
        FeatureDrift(
            name=name,
            reference_median=measured.reference_median,
            median=measured.median,
            distance=measured.distance,
            p=p,
            reason=None if name in adjusted else reason,
            shift=measured.shift,
            drifted=p is not None and p <= params.alpha and measured.distance >= params.distance,
        )
        for name, measured in found.items()
        for p in [adjusted.get(name)]
    ]


def few_groups(reference: Reference) -> str | None:
    """Say why predictions can't be judged; None where they can."""
    groups = reference.validation_groups
    if groups >= FEWEST_GROUPS:
        return None
    return f"not judged: {groups} validation group{'' if groups == 1 else 's'}, judged from {FEWEST_GROUPS} on"


class _Measured(NamedTuple):
    """Holds a feature's figures, with p not yet corrected."""

    reference_median: float
    median: float
    distance: float
    p: float
    shift: float | None


def _measure(points: Sequence[float], values: Sequence[float], groups: int) -> _Measured:
    """Measure how far a feature's new values lie from the reference: distance, p-value and shift.

    Args:
        points: quantiles of the reference, evenly spaced from 0 to 1.
        values: of new images.
        groups: that the reference is of.
    """
    from scipy.stats import ks_2samp, kstwo, wasserstein_distance

    distance = float(ks_2samp(points, values, method="asymp").statistic)
    effective = max(1, round(groups * len(values) / (groups + len(values))))  # Hodges 1958; as scipy's own
    deviation = float(np.std(points))
    moved = float(wasserstein_distance(points, values))
    return _Measured(
        reference_median=float(np.median(points)),
        median=round(float(np.median(values)), 9),
        distance=round(distance, 9),
        p=float(np.clip(kstwo.sf(distance, effective), 0, 1)),
        shift=round(moved / deviation, 9) if deviation > _SMALLEST_STD else None,
    )


def unusual_images(
    reference: Reference, rows: Sequence[Mapping[str, float]], names: Sequence[str], most: int
) -> list[UnusualImage]:
    """Find the images with the most features outside what 99 % of the reference's images have.

    Images with no such feature are left out.

    Args:
        names: of the images, in the order of `rows`.
        most: that are given.
    """
    points_of = {**reference.of_images, **({} if few_groups(reference) else reference.of_predictions)}
    usual = {name: np.quantile(points, _USUAL) for name, points in points_of.items()}
    found = [
        (image, [name for name, (low, high) in usual.items() if not low <= row[name] <= high])
        for image, row in zip(names, rows, strict=True)
    ]
    odd = sorted((pair for pair in found if pair[1]), key=lambda pair: (-len(pair[1]), pair[0]))[:most]
    return [UnusualImage(image=image, features=features) for image, features in odd]
