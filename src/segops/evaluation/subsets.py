"""Scores of a subset: a row an image, and their summary with intervals. Writing tables by one rule."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from segops.contracts import Interval, SubsetScores
from segops.evaluation.curves import PixelTally
from segops.evaluation.metrics import dice
from segops.evaluation.statistics import bootstrap_mean
from segops.files import atomic_path
from segops.params import EvaluateParams


def summarize(table: pd.DataFrame, tally: PixelTally, params: EvaluateParams) -> SubsetScores:
    """The scores of one subset.

    Args:
        table: PER_IMAGE_COLUMNS, the rows of the subset.
        tally: the counts of the same images.
    """
    totals = table[["true_positive", "false_positive", "false_negative"]].sum()
    by_modality = {str(name): _interval(rows, "dice", params) for name, rows in table.groupby("modality", sort=True)}
    return SubsetScores(
        images=len(table),
        groups=int(table["group_id"].nunique()),
        dice=_interval(table, "dice", params),
        iou=_interval(table, "iou", params),
        precision=_interval(table, "precision", params),
        recall=_interval(table, "recall", params),
        accuracy=_interval(table, "accuracy", params),
        pooled_dice=round(float(dice(*(int(total) for total in totals))), 9),
        hd95_px=_mean_of_known(table["hd95_px"]),
        assd_px=_mean_of_known(table["assd_px"]),
        pr_auc=tally.pr_auc(),
        roc_auc=tally.roc_auc(),
        by_modality=by_modality,
    )


def _interval(table: pd.DataFrame, column: str, params: EvaluateParams) -> Interval:
    return bootstrap_mean(
        table[column].to_numpy(),
        table["group_id"].astype(str).to_numpy(),
        resamples=params.bootstrap,
        confidence=params.confidence,
        seed=params.seed,
    )


def _mean_of_known(column: pd.Series[float]) -> float | None:
    known = column.dropna()
    return round(float(known.mean()), 9) if len(known) else None


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV atomically: floats with six decimals, an empty field for none, `\\n` line ends."""
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False, float_format="%.6f", lineterminator="\n", encoding="utf-8")
