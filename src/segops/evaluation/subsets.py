"""Scores of a subset: a row an image, and their summary with intervals. Writing tables by one rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from segops.evaluation.confusion import ConfusionTally, class_counts
from segops.evaluation.curves import PixelTally
from segops.evaluation.metrics import class_mean, dice
from segops.evaluation.statistics import bootstrap_mean
from segops.files import atomic_path
from segops.params import EvaluateParams
from segops.scores import ClassScores, Interval, SubsetScores
from segops.tables import class_columns


def summarize(
    table: pd.DataFrame, tally: PixelTally, confused: ConfusionTally, classes: Sequence[str], params: EvaluateParams
) -> SubsetScores:
    """The scores of one subset.

    Args:
        table: `per_image_columns` of the classes, the rows of the subset.
        tally: the counts above thresholds of the same images.
        confused: the confusion of the same images.
        classes: names by index, background first.
    """
    by_modality = {str(name): _interval(rows, "dice", params) for name, rows in table.groupby("modality", sort=True)}
    return SubsetScores(
        images=len(table),
        groups=int(table["group_id"].nunique()),
        dice=_interval(table, "dice", params),
        iou=_interval(table, "iou", params),
        precision=_interval(table, "precision", params),
        recall=_interval(table, "recall", params),
        accuracy=_interval(table, "accuracy", params),
        pooled_dice=round(float(class_mean(dice, *class_counts(confused.matrix_KK))), 9),
        hd95_px=_mean_of_known(table["hd95_px"]),
        assd_px=_mean_of_known(table["assd_px"]),
        pr_auc=tally.pr_auc(),
        roc_auc=tally.roc_auc(),
        by_modality=by_modality,
        by_class=_by_class(table, confused, classes, params),
        confusion=confused.matrix_KK.tolist(),
    )


def _by_class(
    table: pd.DataFrame, confused: ConfusionTally, classes: Sequence[str], params: EvaluateParams
) -> dict[str, ClassScores]:
    pooled_F = dice(*class_counts(confused.matrix_KK))
    return {
        name: ClassScores(
            dice=_interval(table, dice_column, params),
            iou=_interval(table, iou_column, params),
            pooled_dice=round(float(pooled_F[index - 1]), 9),
            pixels=int(confused.matrix_KK[index].sum()),
            images=int(confused.images_K[index]),
        )
        for index, (name, (dice_column, iou_column)) in enumerate(class_columns(classes).items(), start=1)
    }


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


def confusion_table(matrices: Mapping[str, Sequence[Sequence[int]]], classes: Sequence[str]) -> pd.DataFrame:
    """subset, truth, predicted, pixels, share (of the truth's class; none where it has no pixel).

    Args:
        matrices: pixels by subset, a row a class of the truth and a column a predicted class.
    """
    rows = [
        (subset, truth, predicted, pixels, pixels / total if total else None)
        for subset, matrix in matrices.items()
        for truth, counted in zip(classes, matrix, strict=True)
        for total in [sum(counted)]
        for predicted, pixels in zip(classes, counted, strict=True)
    ]
    return pd.DataFrame(rows, columns=["subset", "truth", "predicted", "pixels", "share"])


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV atomically: floats with six decimals, an empty field for none, `\\n` line ends."""
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False, float_format="%.6f", lineterminator="\n", encoding="utf-8")
