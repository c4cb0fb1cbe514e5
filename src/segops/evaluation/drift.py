"""Are new images like those that a model was made for? Each feature's distribution against the reference's.

A feature drifts when the Kolmogorov-Smirnov distance of new images from the reference is large, and its p-value small
after Holm's correction (Holm 1979): of many images every difference is significant, of few none is. New images of one
slide or field aren't independent, as the p-value takes them to be: the distance says how much it matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from segops.params.drift import DriftParams
from segops.use_contracts import FeatureDrift, Reference, UnusualImage

_USUAL = (0.005, 0.995)  # an image outside these shares of the reference has an unusual feature
_SMALLEST_STD = 1e-9


def compare_features(
    reference: Reference, rows: Sequence[Mapping[str, float]], params: DriftParams
) -> list[FeatureDrift]:
    """Every feature of the reference against new images.

    Args:
        rows: features of new images; at least two.
    """
    measured = [
        _measure(name, points, images, [row[name] for row in rows])
        for points_of, images in (
            (reference.of_images, reference.training_images),
            (reference.of_predictions, reference.validation_images),
        )
        for name, points in points_of.items()
    ]
    adjusted = holm([one.p for one in measured])
    return [
        one.model_copy(update={"p": p, "drifted": p <= params.alpha and one.distance >= params.distance})
        for one, p in zip(measured, adjusted, strict=True)
    ]


def _measure(name: str, points: Sequence[float], images: int, values: Sequence[float]) -> FeatureDrift:
    """Distance and p-value, not yet corrected.

    Args:
        points: quantiles of the reference, evenly spaced from 0 to 1.
        images: that they are of.
    """
    from scipy.stats import ks_2samp, kstwo, wasserstein_distance

    distance = float(ks_2samp(points, values, method="asymp").statistic)
    effective = max(1, round(images * len(values) / (images + len(values))))  # Hodges 1958; as scipy's own
    deviation = float(np.std(points))
    moved = float(wasserstein_distance(points, values))
    return FeatureDrift(
        name=name,
        reference_median=float(np.median(points)),
        median=round(float(np.median(values)), 9),
        distance=round(distance, 9),
        p=float(np.clip(kstwo.sf(distance, effective), 0, 1)),
        shift=round(moved / deviation, 9) if deviation > _SMALLEST_STD else None,
        drifted=False,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several, in their order (Holm 1979)."""
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = round(least, 12)
    return adjusted


def unusual_images(
    reference: Reference, rows: Sequence[Mapping[str, float]], names: Sequence[str], most: int
) -> list[UnusualImage]:
    """The images with the most features outside what 99 % of the reference's images have; those with none are left out.

    Args:
        names: of the images, in the order of `rows`.
        most: that are given.
    """
    points_of = {**reference.of_images, **reference.of_predictions}
    usual = {name: np.quantile(points, _USUAL) for name, points in points_of.items()}
    found = [
        (image, [name for name, (low, high) in usual.items() if not low <= row[name] <= high])
        for image, row in zip(names, rows, strict=True)
    ]
    odd = sorted((one for one in found if one[1]), key=lambda one: (-len(one[1]), one[0]))[:most]
    return [UnusualImage(image=image, features=features) for image, features in odd]
