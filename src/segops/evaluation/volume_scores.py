"""Scores that volumes have beside those of pictures: distances in mm, surface Dice, and volumes in ml.

Axes: D depth, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan, prod, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from segops.contracts.per_image import VOLUME_COLUMNS, class_columns
from segops.contracts.scores import Agreement, VolumeScores
from segops.contracts.volumes import Spacing, spacing_of
from segops.evaluation.intervals import group_interval
from segops.evaluation.metrics import defined_mean, mean_distances
from segops.evaluation.scored_pixels import blank
from segops.evaluation.surface_dice import surface_dice
from segops.params.evaluate import EvaluateParams

Mask = npt.NDArray[Any]

_MM3_IN_ML = 1000
_LIMITS = 1.96  # standard deviations, of 95 % of a normal distribution


def volume_scores(
    truth_DHW: Mask, predicted_DHW: Mask, spacing_mm: Spacing | None, classes: int, tolerance_mm: float
) -> dict[str, float | int]:
    """Compute VOLUME_COLUMNS of a volume; all but the depth are NaN where the spacing isn't known.

    Distances are means over the foreground classes that both masks have, surface Dice over those that either has.
    Volumes are of all foreground.
    """
    own: dict[str, float | int] = dict.fromkeys(VOLUME_COLUMNS, nan)
    own["depth"] = len(truth_DHW)
    if spacing_mm is None:
        return own
    truth_DHW, predicted_DHW = blank(truth_DHW, predicted_DHW)
    distances = mean_distances(truth_DHW, predicted_DHW, classes, spacing_mm)
    surfaces = [
        surface_dice(truth_DHW == index, predicted_DHW == index, spacing_mm, tolerance_mm)
        for index in range(1, classes)
    ]
    voxel_ml = prod(spacing_mm) / _MM3_IN_ML
    return own | {
        "hd95_mm": distances.hd95,
        "hd_mm": distances.hd,
        "assd_mm": distances.assd,
        "surface_dice": float(defined_mean(surfaces)),
        "truth_ml": np.count_nonzero(truth_DHW) * voxel_ml,
        "predicted_ml": np.count_nonzero(predicted_DHW) * voxel_ml,
    }


def summarize_volumes(
    table: pd.DataFrame, index: pd.DataFrame, classes: Sequence[str], params: EvaluateParams
) -> VolumeScores | None:
    """Summarize the volume columns of a subset; None where no volume's spacing is known.

    Args:
        table: `per_image_columns` and VOLUME_COLUMNS, a row a volume.
        index: rows of the prepared index, which say the spacing.
    """
    known = table.dropna(subset="truth_ml")
    if not len(known):
        return None
    scored = known.dropna(subset="surface_dice")
    groups = scored["group_id"].astype(str).to_numpy()
    return VolumeScores(
        tolerance_mm=params.surface_tolerance_mm,
        hd95_mm=_mean(known["hd95_mm"]),
        hd_mm=_mean(known["hd_mm"]),
        assd_mm=_mean(known["assd_mm"]),
        surface_dice=group_interval(scored["surface_dice"].to_numpy(), groups, confidence=params.confidence)
        if len(scored)
        else None,
        volume_ml={
            name: agreement(of_class["truth_ml"].to_numpy(), of_class["predicted_ml"].to_numpy())
            for name, of_class in volumes_by_class(table, index, classes).items()
        },
    )


def volumes_by_class(table: pd.DataFrame, index: pd.DataFrame, classes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return `image_id`, `truth_ml` and `predicted_ml` of each volume whose spacing is known, by foreground class.

    Args:
        table, index: as of `summarize_volumes`.
    """
    known = table.dropna(subset="truth_ml")
    if len(classes) == 2:
        return {classes[1]: known[["image_id", "truth_ml", "predicted_ml"]]}
    voxel_ml = {str(row["image_id"]): prod(spacing_of(row)) / _MM3_IN_ML for row in index.to_dict("records")}
    millilitres = known["image_id"].map(voxel_ml)
    return {
        name: known[["image_id"]].assign(
            truth_ml=known[own.pixels] * millilitres, predicted_ml=known[own.predicted_pixels] * millilitres
        )
        for name, own in class_columns(classes).items()
    }


def agreement(truth_ml: npt.NDArray[np.float64], predicted_ml: npt.NDArray[np.float64]) -> Agreement:
    """Compute how far predicted volumes agree with true ones: bias and 95 % limits (Bland and Altman 1986).

    Volumes that both lack the class say nothing and are left out; a single volume has no limits.
    """
    either = (truth_ml > 0) | (predicted_ml > 0)
    difference = predicted_ml[either] - truth_ml[either]
    count = len(difference)
    bias = float(difference.mean()) if count else 0.0
    deviation = sqrt(float(((difference - bias) ** 2).sum()) / (count - 1)) if count > 1 else None
    return Agreement(
        volumes=count,
        truth_ml=_rounded(truth_ml[either].mean()) if count else None,
        bias_ml=_rounded(bias) if count else None,
        low_ml=None if deviation is None else _rounded(bias - _LIMITS * deviation),
        high_ml=None if deviation is None else _rounded(bias + _LIMITS * deviation),
    )


def _mean(values: pd.Series[float]) -> float | None:
    """Return the mean of the values that are known; None where there is none."""
    return _rounded(values.mean()) if values.notna().any() else None


def _rounded(value: float) -> float:
    """Round to nine decimals, so that the last bits, which the order of a sum decides, aren't written."""
    return round(float(value), 9)
