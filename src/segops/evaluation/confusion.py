"""Confusion between classes, by pixel counts.

Axes: H height, W width, K classes with background, F foreground classes (K - 1). A matrix KK has one row per class of
the truth and one column per predicted class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segops.evaluation.scored_pixels import scored

Counts = npt.NDArray[np.int64]


def confusion(truth_HW: npt.NDArray[Any], predicted_HW: npt.NDArray[Any], classes: int) -> Counts:
    """Count the pixels KK of each pair of classes in two masks of class indices below `classes`, the truth first.

    Pixels that the truth ignores count in no pair.
    """
    if truth_HW.shape != predicted_HW.shape:
        raise ValueError(f"truth {truth_HW.shape} and prediction {predicted_HW.shape} differ in size")
    truth, predicted = scored(truth_HW, predicted_HW)
    pairs = truth.astype(np.int64).ravel() * classes + predicted.ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_counts(matrix_KK: Counts) -> tuple[Counts, Counts, Counts]:
    """Return three arrays F, the true positives, false positives and false negatives of each foreground class."""
    right_K = matrix_KK.diagonal()
    return right_K[1:], (matrix_KK.sum(axis=0) - right_K)[1:], (matrix_KK.sum(axis=1) - right_K)[1:]


class ConfusionTally:
    """Holds the confusion matrix over the images added so far.

    Attributes:
        matrix_KK: pixels of all images.
        images_K: how many images' truth has a class.
    """

    def __init__(self, classes: int) -> None:
        self.matrix_KK: Counts = np.zeros((classes, classes), np.int64)
        self.images_K: Counts = np.zeros(classes, np.int64)

    def add(self, matrix_KK: Counts) -> None:
        """Add the confusion matrix KK of one image."""
        self.matrix_KK += matrix_KK
        self.images_K += matrix_KK.any(axis=1)
