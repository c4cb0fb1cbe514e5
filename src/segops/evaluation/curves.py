"""Precision-recall, ROC and Dice over thresholds, from pixel counts that are added up image by image.

Memory is flat: an image adds two counts a threshold. The areas are those over all pixels up to the spacing of the
thresholds (about a thousand, even in probability and in log odds, since a trained network's probabilities crowd at
0 and 1); pixels between two thresholds count as tied. Several classes count as foreground together.

Axes: H height, W width, T thresholds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from segops.evaluation.metrics import counts_above, dice

_EVEN = np.arange(101) / 100
_ODDS = 1 / (1 + np.exp(-np.linspace(-12, 12, 901)))
CURVE_THRESHOLDS = np.unique(np.concatenate([_EVEN, _ODDS]).astype(np.float32))
_ROWS = 101


class PixelTally:
    """Counts above each threshold over the images added so far."""

    def __init__(self) -> None:
        self.images = 0
        self.pixels = 0
        self.positives = 0
        self.tp_T = np.zeros(len(CURVE_THRESHOLDS), np.int64)
        self.fp_T = np.zeros(len(CURVE_THRESHOLDS), np.int64)
        self._dice_sum_T = np.zeros(len(CURVE_THRESHOLDS))

    def add(self, probability_HW: npt.NDArray[np.float32], truth_HW: npt.NDArray[Any]) -> None:
        """Count one image: foreground probability, and a mask whose values above 0 are foreground."""
        tp, fp = counts_above(probability_HW, truth_HW, CURVE_THRESHOLDS)
        positives = int(np.count_nonzero(truth_HW))
        self.images += 1
        self.pixels += truth_HW.size
        self.positives += positives
        self.tp_T += tp
        self.fp_T += fp
        self._dice_sum_T += dice(tp, fp, positives - tp)

    def pr_auc(self) -> float | None:
        """Average precision: the sum over thresholds of precision times the gain in recall; None without positives."""
        if not self.positives:
            return None
        tp, fp = self._descending()
        recall = tp / self.positives
        return round(float(np.sum(np.diff(recall, prepend=0.0) * tp / np.maximum(tp + fp, 1))), 9)

    def roc_auc(self) -> float | None:
        """Area under the ROC curve by trapezoids; None unless there are positives and negatives."""
        negatives = self.pixels - self.positives
        if not self.positives or not negatives:
            return None
        tp, fp = self._descending()
        true_rate = np.concatenate([[0.0], tp / self.positives])
        false_rate = np.concatenate([[0.0], fp / negatives])
        return round(float(np.trapezoid(true_rate, false_rate)), 9)

    def _descending(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Counts from the strictest threshold down to one below every probability."""
        return (
            np.append(self.tp_T[::-1], self.positives),
            np.append(self.fp_T[::-1], self.pixels - self.positives),
        )

    def best_youden(self) -> float:
        """The threshold with the largest true minus false positive rate; nearest 0.5 among equals."""
        negatives = self.pixels - self.positives
        return self._best(self.tp_T / max(self.positives, 1) - self.fp_T / max(negatives, 1))

    def best_f1(self) -> float:
        """The threshold with the largest Dice over all pixels; nearest 0.5 among equals."""
        return self._best(dice(self.tp_T, self.fp_T, self.positives - self.tp_T))

    @staticmethod
    def _best(score_T: npt.NDArray[np.float64]) -> float:
        equal = np.flatnonzero(score_T >= score_T.max() - 1e-9)
        nearest = equal[np.abs(CURVE_THRESHOLDS[equal] - 0.5).argmin()]
        return round(float(CURVE_THRESHOLDS[nearest]), 9)

    def pr_table(self) -> pd.DataFrame:
        """recall, precision, threshold: about a hundred thresholds at which something is predicted."""
        shown = self._rows((self.tp_T + self.fp_T > 0) & (self.positives > 0))
        recall = self.tp_T[shown] / max(self.positives, 1)
        precision = self.tp_T[shown] / (self.tp_T[shown] + self.fp_T[shown])
        return pd.DataFrame({"recall": recall, "precision": precision, "threshold": CURVE_THRESHOLDS[shown]})

    def roc_table(self) -> pd.DataFrame:
        """false_positive_rate, true_positive_rate, threshold: about a hundred thresholds."""
        negatives = self.pixels - self.positives
        shown = self._rows(np.full(len(CURVE_THRESHOLDS), bool(self.positives and negatives)))
        return pd.DataFrame(
            {
                "false_positive_rate": self.fp_T[shown] / max(negatives, 1),
                "true_positive_rate": self.tp_T[shown] / max(self.positives, 1),
                "threshold": CURVE_THRESHOLDS[shown],
            }
        )

    def dice_table(self, subset: str) -> pd.DataFrame:
        """threshold, `subset`_dice: the mean Dice over images at 0.01, 0.02, ..., 0.99."""
        shown = np.searchsorted(CURVE_THRESHOLDS, _EVEN[1:-1].astype(np.float32))
        means = self._dice_sum_T[shown] / max(self.images, 1)
        return pd.DataFrame({"threshold": _EVEN[1:-1], f"{subset}_dice": means})

    @staticmethod
    def _rows(wanted_T: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """At most _ROWS of the wanted thresholds, evenly spread, ends included."""
        found = np.flatnonzero(wanted_T)
        return found[np.unique(np.linspace(0, len(found) - 1, min(_ROWS, len(found))).round().astype(np.int64))]
