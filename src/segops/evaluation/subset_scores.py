"""Scores of a subset: one row per image, and their summary with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from segops.contracts.per_image import class_columns
from segops.contracts.scores import ClassScores, InstanceScores, Interval, PublishedScores, SubsetScores
from segops.evaluation.calibration import ReliabilityTally
from segops.evaluation.confusion import ConfusionTally, class_counts
from segops.evaluation.curves import PixelTally
from segops.evaluation.intervals import group_interval
from segops.evaluation.metrics import class_mean, dice
from segops.evaluation.micrometres import summarize_micrometres
from segops.evaluation.object_scores import IOUS, InstanceTally
from segops.evaluation.presence import false_positive_share, in_truth
from segops.evaluation.volume_scores import summarize_volumes
from segops.params.evaluate import EvaluateParams


@dataclass
class Measured:
    """Holds what one pass over a subset's images gives.

    Attributes:
        table: `per_image_columns` of the classes, one row per image; of volumes VOLUME_COLUMNS too, of
            pictures MICROMETRE_COLUMNS where the pixel size of one is known.
        index: the images' rows of the prepared index.
        tally: counts above thresholds.
        matched: objects, where the candidate tells them apart.
        features: of each image's prediction, as `prediction_features`.
        published: scores of the published evaluation, by image; test alone.
        ignored_px: pixels that the truths ignore.
    """

    classes: list[str]
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    index: pd.DataFrame = field(default_factory=pd.DataFrame)
    tally: PixelTally = field(default_factory=PixelTally)
    reliability: ReliabilityTally = field(default_factory=ReliabilityTally)
    matched: InstanceTally = field(default_factory=InstanceTally)
    features: list[dict[str, float]] = field(default_factory=list)
    published: list[PublishedScores] = field(default_factory=list)
    ignored_px: int = 0
    confused: ConfusionTally = field(init=False)

    def __post_init__(self) -> None:
        self.confused = ConfusionTally(len(self.classes))


def summarize(measured: Measured, params: EvaluateParams) -> SubsetScores:
    """Summarize the scores of one subset.

    At least one image's truth has foreground (`PreparedData.require_foreground`).
    """
    table, tally, confused, classes = measured.table, measured.tally, measured.confused, measured.classes
    by_modality = {str(name): _defined(rows, "dice", params) for name, rows in table.groupby("modality", sort=True)}
    return SubsetScores(
        images=len(table),
        images_with_foreground=int(in_truth(table).sum()),
        false_positive_share=false_positive_share(table),
        groups=int(table["group_id"].nunique()),
        dice=_interval(table, "dice", params),
        iou=_interval(table, "iou", params),
        precision=_interval(table, "precision", params),
        recall=_interval(table, "recall", params),
        accuracy=_interval(table, "accuracy", params),
        pooled_dice=round(float(class_mean(dice, *class_counts(confused.matrix_KK))), 9),
        hd95_px=_mean_of_known(table["hd95_px"]),
        hd_px=_mean_of_known(table["hd_px"]),
        assd_px=_mean_of_known(table["assd_px"]),
        pr_auc=tally.pr_auc(),
        roc_auc=tally.roc_auc(),
        by_modality=by_modality,
        by_class=_by_class(table, confused, classes, params),
        confusion=confused.matrix_KK.tolist(),
        ignored_share=round(measured.ignored_px / (measured.ignored_px + int(confused.matrix_KK.sum())), 9),
        ece=measured.reliability.ece(),
        reliability=measured.reliability.bins(),
        instances=_instances(measured, params),
        micrometres=summarize_micrometres(table),
        volumes=summarize_volumes(table, measured.index, classes, params) if "depth" in table else None,
    )


def _instances(measured: Measured, params: EvaluateParams) -> InstanceScores | None:
    """Summarize the scores of objects; None where the candidate tells no objects apart."""
    if not measured.matched.images:
        return None
    return InstanceScores(
        ap=_interval(measured.table, "ap", params),
        ap50=_interval(measured.table, "ap50", params),
        by_iou=dict(zip(map(str, IOUS), measured.matched.means(), strict=True)),
        pq=_interval(measured.table, "pq", params),
        truth=measured.matched.truth,
        component_images=measured.matched.component_images,
        objects=measured.matched.objects,
        predicted=measured.matched.predicted,
        splits=measured.matched.splits,
        merges=measured.matched.merges,
    )


def _by_class(
    table: pd.DataFrame, confused: ConfusionTally, classes: Sequence[str], params: EvaluateParams
) -> dict[str, ClassScores]:
    """Summarize the scores of each foreground class, by its name."""
    pooled_F = dice(*class_counts(confused.matrix_KK))
    return {
        name: ClassScores(
            dice=_defined(table, own.dice, params),
            iou=_defined(table, own.iou, params),
            pooled_dice=_rounded(pooled_F[index - 1]),
            pixels=int(confused.matrix_KK[index].sum()),
            images=int(confused.images_K[index]),
            false_positive_share=false_positive_share(table, own),
        )
        for index, (name, own) in enumerate(class_columns(classes).items(), start=1)
    }


def _interval(table: pd.DataFrame, column: str, params: EvaluateParams) -> Interval:
    """Return a score's mean and interval over the images in which it is defined; at least one."""
    known = table.dropna(subset=column)
    groups = known["group_id"].astype(str).to_numpy()
    return group_interval(known[column].to_numpy(), groups, confidence=params.confidence)


def _defined(table: pd.DataFrame, column: str, params: EvaluateParams) -> Interval | None:
    """Return `_interval`, or None where no image has the score."""
    return _interval(table, column, params) if table[column].notna().any() else None


def _mean_of_known(column: pd.Series[float]) -> float | None:
    """Return the mean of the values that are known, rounded; None where there is none."""
    return _rounded(column.mean())


def _rounded(value: float) -> float | None:
    """Round to nine decimals; None for NaN."""
    return None if np.isnan(value) else round(float(value), 9)


def confusion_table(matrices: Mapping[str, Sequence[Sequence[int]]], classes: Sequence[str]) -> pd.DataFrame:
    """Make a table of confusion matrices: subset, truth, predicted, pixels, share.

    Share is of the truth's class; it is none where the class has no pixel.

    Args:
        matrices: pixels by subset, one row per class of the truth and one column per predicted class.
    """
    rows = [
        (subset, truth, predicted, pixels, pixels / total if total else None)
        for subset, matrix in matrices.items()
        for truth, counted in zip(classes, matrix, strict=True)
        for total in [sum(counted)]
        for predicted, pixels in zip(classes, counted, strict=True)
    ]
    return pd.DataFrame(rows, columns=["subset", "truth", "predicted", "pixels", "share"])
