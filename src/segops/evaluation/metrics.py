"""Scores of a binary mask against the truth, by pixel counts; and the threshold that suits a validation set.

Axes: H height, W width. Counts are pixels: tp true positive, fp false positive, fn false negative, tn true negative.
Foreground is every class above 0. A score over many images is the mean over images, except pooled Dice (micro: over
the pixels of all images, `dice` of the summed counts).

Every function takes Python numbers, numpy arrays or torch tensors, elementwise. The cases with nothing to count:

| truth | prediction | Dice, IoU | precision | recall | HD95, ASSD |
|---|---|---|---|---|---|
| empty | empty | 1 | 1 | 1 | none |
| empty | some | 0 | 0 | 0 | none |
| some | empty | 0 | 0 | 0 | none |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.evaluation.surface import surface_distances

Mask = npt.NDArray[Any]
Floats = npt.NDArray[np.floating[Any]]

THRESHOLDS = tuple(step / 20 for step in range(1, 20))
"""The thresholds that are tried on validation: 0.05 to 0.95 by 0.05."""


def dice(tp: Any, fp: Any, fn: Any) -> Any:
    """2 tp / (2 tp + fp + fn); 1 where truth and prediction are empty."""
    return _ratio(2 * tp, 2 * tp + fp + fn, 1)


def iou(tp: Any, fp: Any, fn: Any) -> Any:
    """tp / (tp + fp + fn), the Jaccard index; 1 where truth and prediction are empty."""
    return _ratio(tp, tp + fp + fn, 1)


def precision(tp: Any, fp: Any, fn: Any) -> Any:
    """tp / (tp + fp); where nothing is predicted, 1 if the truth is empty too, else 0."""
    return _ratio(tp, tp + fp, fn == 0)


def recall(tp: Any, fp: Any, fn: Any) -> Any:
    """tp / (tp + fn); where the truth is empty, 1 if nothing is predicted, else 0."""
    return _ratio(tp, tp + fn, fp == 0)


def accuracy(tp: Any, fp: Any, fn: Any, tn: Any) -> Any:
    """(tp + tn) / all pixels."""
    return (tp + tn) / (tp + fp + fn + tn)


def _ratio(numerator: Any, denominator: Any, empty: Any) -> Any:
    """The quotient, and `empty` (0 or 1) where the denominator is 0."""
    nothing = denominator == 0
    return (numerator + nothing * empty) / (denominator + nothing)


def counts(truth_HW: Mask, predicted_HW: Mask) -> tuple[int, int, int, int]:
    """tp, fp, fn, tn of two masks; every value above 0 is foreground."""
    if truth_HW.shape != predicted_HW.shape:
        raise ValueError(f"truth {truth_HW.shape} and prediction {predicted_HW.shape} differ in size")
    truth, predicted = truth_HW > 0, predicted_HW > 0
    tp = int(np.count_nonzero(truth & predicted))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return tp, fp, fn, truth.size - tp - fp - fn


def image_scores(truth_HW: Mask, predicted_HW: Mask) -> dict[str, float | int]:
    """The score columns of per_image.csv for one image; HD95 and ASSD are NaN where a side has no foreground."""
    tp, fp, fn, tn = counts(truth_HW, predicted_HW)
    hd95_px, assd_px = surface_distances(truth_HW > 0, predicted_HW > 0)
    return {
        "dice": float(dice(tp, fp, fn)),
        "iou": float(iou(tp, fp, fn)),
        "precision": float(precision(tp, fp, fn)),
        "recall": float(recall(tp, fp, fn)),
        "accuracy": float(accuracy(tp, fp, fn, tn)),
        "hd95_px": hd95_px,
        "assd_px": assd_px,
        "true_positive": tp,
        "false_positive": fp,
        "false_negative": fn,
        "true_negative": tn,
    }


def counts_above(
    probability_HW: Floats, truth_HW: Mask, thresholds: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pixels whose probability lies above each threshold: tp and fp, each one a threshold.

    Args:
        thresholds: ascending. Probabilities are compared in float32, as `probability > threshold` is.
    """
    probability = np.asarray(probability_HW, np.float32)
    bins = np.searchsorted(thresholds, probability.ravel(), side="left")  # the number of thresholds below
    truth = truth_HW.ravel() > 0
    passed = np.bincount(bins, minlength=len(thresholds) + 1)
    positive = np.bincount(bins[truth], minlength=len(thresholds) + 1)
    above = np.cumsum(np.stack([positive, passed - positive])[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return above[0], above[1]


def choose_threshold(probabilities: Iterable[Floats], truths: Iterable[Mask]) -> tuple[float, float]:
    """The threshold of THRESHOLDS with the best mean Dice; the one nearest 0.5 among equals.

    Args:
        probabilities: foreground probability HW of each image, in [0, 1]. Foreground is `probability > threshold`.
        truths: mask HW of each image; every value above 0 is foreground.

    Returns:
        The threshold and its mean Dice over images. Raises ValueError without an image.
    """
    thresholds = np.array(THRESHOLDS, np.float32)
    scores = []
    for probability_HW, truth_HW in zip(probabilities, truths, strict=True):
        tp, fp = counts_above(probability_HW, truth_HW, thresholds)
        scores.append(dice(tp, fp, np.count_nonzero(truth_HW) - tp))
    if not scores:
        raise ValueError("a threshold needs at least one image")
    # Means that are equal up to the order of summation are equal.
    means = np.round(np.stack(scores).mean(axis=0), 9).tolist()
    best = max(range(len(means)), key=lambda i: (means[i], -abs(THRESHOLDS[i] - 0.5)))
    return THRESHOLDS[best], float(means[best])
