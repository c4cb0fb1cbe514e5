"""Scores of a mask against the truth, by pixel counts; and the threshold that suits a validation set.

Axes: H height, W width, K classes. Counts are pixels: tp true positive, fp false positive, fn false negative, tn true
negative. A class is counted against all others. An image's score is the mean over the foreground classes that truth or
prediction has (`class_mean`), which with two classes is the score of the one foreground class. A score over many images
is the mean over images, except pooled Dice (micro: over the pixels of all images, `dice` of the summed counts).

Pixels that the truth ignores are as if they weren't there (`scored_pixels`).

Scores take Python numbers or numpy arrays, elementwise. Where neither truth nor prediction has a class, all of them are
undefined, NaN, and left out of every mean (`defined_mean`); elsewhere an empty denominator counts 0. So a model that
finds nothing scores 0, and nobody is paid for an image in which nothing is to be found:

| truth | prediction | Dice, IoU, precision, recall | HD95, maximum Hausdorff, ASSD |
|---|---|---|---|
| empty | empty | none | none |
| empty | some | 0 | none |
| some | empty | 0 | none |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.contracts.masks import is_foreground
from segops.contracts.per_image import class_columns
from segops.evaluation.confusion import class_counts, confusion
from segops.evaluation.scored_pixels import blank, scored
from segops.evaluation.surface import SurfaceDistances, surface_distances

Mask = npt.NDArray[Any]
Floats = npt.NDArray[np.floating[Any]]

THRESHOLDS = tuple(step / 20 for step in range(1, 20))
"""The thresholds that are tried on validation: 0.05 to 0.95 by 0.05."""


def dice(tp: Any, fp: Any, fn: Any) -> Any:
    """Compute 2 tp / (2 tp + fp + fn); NaN where truth and prediction are empty."""
    return _ratio(2 * tp, 2 * tp + fp + fn, tp + fp + fn)


def iou(tp: Any, fp: Any, fn: Any) -> Any:
    """Compute tp / (tp + fp + fn), the Jaccard index; NaN where truth and prediction are empty."""
    return _ratio(tp, tp + fp + fn, tp + fp + fn)


def precision(tp: Any, fp: Any, fn: Any) -> Any:
    """Compute tp / (tp + fp); where nothing is predicted, NaN if the truth is empty too, else 0."""
    return _ratio(tp, tp + fp, tp + fp + fn)


def recall(tp: Any, fp: Any, fn: Any) -> Any:
    """Compute tp / (tp + fn); where the truth is empty, NaN if nothing is predicted, else 0."""
    return _ratio(tp, tp + fn, tp + fp + fn)


def accuracy(tp: Any, fp: Any, fn: Any, tn: Any) -> Any:
    """Compute (tp + tn) / all pixels; NaN where there is none."""
    return _ratio(tp + tn, tp + fp + fn + tn, tp + fp + fn + tn)


def defined_mean(values: Any, axis: int | None = None) -> Any:
    """Return the mean of the values that are defined, along an axis or of all; NaN where there is none."""
    given = np.asarray(values, np.float64)
    known = ~np.isnan(given)
    count = known.sum(axis=axis)
    return np.where(count > 0, np.where(known, given, 0).sum(axis=axis) / np.maximum(count, 1), np.nan)[()]


def class_mean(score: Callable[[Any, Any, Any], Any], tp: Any, fp: Any, fn: Any) -> Any:
    """Return the mean of a score over the foreground classes that truth or prediction has; NaN if none.

    Args:
        score: dice, iou, precision or recall.
        tp: counts (..., foreground classes), a numpy array; `fp` and `fn` alike.

    Returns:
        The means (...): one per image for counts of images by classes.
    """
    return defined_mean(score(tp, fp, fn), axis=-1)


def _ratio(numerator: Any, denominator: Any, pixels: Any) -> Any:
    """Divide counts: 0 where the denominator is 0, and NaN where there is no pixel to speak of."""
    quotient = np.asarray(numerator, np.float64) / np.maximum(denominator, 1)
    return np.where(np.asarray(pixels) > 0, quotient, np.nan)[()]


def counts(truth_HW: Mask, predicted_HW: Mask) -> tuple[int, int, int, int]:
    """Count tp, fp, fn and tn of two masks; every class above 0 is foreground."""
    if truth_HW.shape != predicted_HW.shape:
        raise ValueError(f"truth {truth_HW.shape} and prediction {predicted_HW.shape} differ in size")
    truth, predicted = (mask > 0 for mask in scored(truth_HW, predicted_HW))
    tp = int(np.count_nonzero(truth & predicted))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return tp, fp, fn, truth.size - tp - fp - fn


def image_scores(
    truth_HW: Mask, predicted_HW: Mask, classes: Sequence[str], *, in_pixels: bool = True
) -> dict[str, float | int]:
    """Compute the score columns of per_image.csv for one image.

    Args:
        truth_HW: class indices, and IGNORED; of volumes DHW.
        predicted_HW: class indices.
        classes: names by index, background first.
        in_pixels: whether distances are measured in pixels, as they aren't where volumes have them in mm.

    Returns:
        Means over the foreground classes that either side has, and each class's own, with its pixels, where there are
        several; NaN where there is none, as is the accuracy of an image that is ignored as a whole. HD95, maximum
        Hausdorff and ASSD are means over the classes that both sides have. Counts are of foreground against background.
    """
    matrix_KK = confusion(truth_HW, predicted_HW, len(classes))
    tp_F, fp_F, fn_F = class_counts(matrix_KK)
    means = {score.__name__: float(class_mean(score, tp_F, fp_F, fn_F)) for score in (dice, iou, precision, recall)}
    dice_F, iou_F = dice(tp_F, fp_F, fn_F), iou(tp_F, fp_F, fn_F)
    own: dict[str, float | int] = {}
    for index, columns in enumerate(class_columns(classes).values()):
        pixels, predicted = int(tp_F[index] + fn_F[index]), int(tp_F[index] + fp_F[index])
        values = (float(dice_F[index]), float(iou_F[index]), pixels, predicted)
        own |= dict(zip(columns, values, strict=True))
    tp, fp, fn, tn = counts(truth_HW, predicted_HW)
    unknown = SurfaceDistances(*[float("nan")] * 3)
    distances = mean_distances(truth_HW, predicted_HW, len(classes)) if in_pixels else unknown
    return {
        **means,
        "accuracy": float(_ratio(matrix_KK.trace(), matrix_KK.sum(), matrix_KK.sum())),
        **{f"{name}_px": value for name, value in distances._asdict().items()},
        "true_positive": tp,
        "false_positive": fp,
        "false_negative": fn,
        "true_negative": tn,
        **own,
    }


def mean_distances(
    truth_HW: Mask, predicted_HW: Mask, classes: int, spacing: Sequence[float] | None = None
) -> SurfaceDistances:
    """Return each surface distance's mean over the foreground classes that both masks have; NaN if none.

    Args:
        spacing: as of `surface_distances`.
    """
    truth_HW, predicted_HW = blank(truth_HW, predicted_HW)
    found = [surface_distances(truth_HW == index, predicted_HW == index, spacing) for index in range(1, classes)]
    known = [distances for distances in found if not np.isnan(distances.hd)]
    return SurfaceDistances(*np.mean(known, axis=0).tolist()) if known else SurfaceDistances(*[float("nan")] * 3)


def image_dice(truth_HW: Mask, predicted_HW: Mask, classes: int) -> float:
    """Return an image's mean Dice over the foreground classes that either mask has; NaN where that is none.

    Masks hold class indices, the truth's IGNORED too.
    """
    return float(class_mean(dice, *class_counts(confusion(truth_HW, predicted_HW, classes))))


def counts_above(
    probability_HW: Floats, truth_HW: Mask, thresholds: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count the pixels whose probability lies above each threshold: tp and fp, each one count per threshold.

    Args:
        thresholds: ascending. Probabilities are compared in float32, as `probability > threshold` is.
    """
    truth, probability = scored(truth_HW, np.asarray(probability_HW, np.float32))
    bins = np.searchsorted(thresholds, probability.ravel(), side="left")  # the number of thresholds below
    passed = np.bincount(bins, minlength=len(thresholds) + 1)
    positive = np.bincount(bins[truth.ravel() > 0], minlength=len(thresholds) + 1)
    above = np.cumsum(np.stack([positive, passed - positive])[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return above[0], above[1]


def choose_threshold(probabilities: Iterable[Floats], truths: Iterable[Mask]) -> tuple[float, float]:
    """Choose the threshold of THRESHOLDS with the best mean Dice; the nearest to 0.5 among equals.

    Args:
        probabilities: foreground probability HW of each image, in [0, 1]. Foreground is `probability > threshold`.
        truths: mask HW of each image; every class above 0 is foreground.

    Returns:
        The threshold and its mean Dice over the images in which it is defined. Raises ValueError where no truth has
        foreground: nothing can be chosen by images in which nothing is to be found.
    """
    thresholds = np.array(THRESHOLDS, np.float32)
    scores, positives = [], 0
    for probability_HW, truth_HW in zip(probabilities, truths, strict=True):
        tp, fp = counts_above(probability_HW, truth_HW, thresholds)
        positive = int(np.count_nonzero(is_foreground(truth_HW)))
        scores.append(dice(tp, fp, positive - tp))
        positives += positive
    if not positives:
        raise ValueError("a threshold needs at least one image whose truth has foreground")
    # Means that are equal up to the order of summation are equal.
    means = np.round(defined_mean(np.stack(scores), axis=0), 9).tolist()
    best = max(range(len(means)), key=lambda i: (means[i], -abs(THRESHOLDS[i] - 0.5)))
    return THRESHOLDS[best], float(means[best])
