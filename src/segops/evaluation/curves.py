"""Curves over all pixels of a set of images, in a few kilobytes of memory.

PixelTally keeps true and false positive counts per threshold, and the exact areas (`ranks`). The thresholds lie evenly
in probability and in log odds, from the smallest float32 above 0 to the largest below 1, since a trained network's
probabilities crowd at both ends. Several classes count as foreground together.

Axes: H height, W width, T thresholds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from segops.evaluation.metrics import counts_above, dice
from segops.evaluation.ranks import RankTally
from segops.evaluation.scored_pixels import scored

_EVEN = np.arange(101) / 100
_STEP = 24 / 900  # in log odds
# Log odds of float32 reach from -103.3, the smallest denormal, to 16.6, the largest number below 1.
_ODDS = 1 / (1 + np.exp(-_STEP * np.arange(-3874, 624)))
_ENDS = [np.nextafter(np.float32(0), np.float32(1)), np.nextafter(np.float32(1), np.float32(0))]
CURVE_THRESHOLDS = np.unique(np.concatenate([_EVEN, _ODDS, _ENDS]).astype(np.float32))
_ROWS = 101


class PixelTally:
    """Holds counts above each threshold over the images added so far."""

    def __init__(self) -> None:
        self.images = 0
        self.pixels = 0
        self.positives = 0
        self.tp_T = np.zeros(len(CURVE_THRESHOLDS), np.int64)
        self.fp_T = np.zeros(len(CURVE_THRESHOLDS), np.int64)
        self._dice_sum_T = np.zeros(len(CURVE_THRESHOLDS))
        self._defined_T = np.zeros(len(CURVE_THRESHOLDS), np.int64)
        self._ranks = RankTally()

    def add(self, probability_HW: npt.NDArray[np.float32], truth_HW: npt.NDArray[Any]) -> None:
        """Count one image: its foreground probability, and its mask, whose classes above 0 are foreground."""
        truth, probability = scored(truth_HW, probability_HW)
        tp, fp = counts_above(probability, truth, CURVE_THRESHOLDS)
        positives = int(np.count_nonzero(truth))
        self.images += 1
        self.pixels += truth.size
        self.positives += positives
        self.tp_T += tp
        self.fp_T += fp
        dice_T = dice(tp, fp, positives - tp)
        self._dice_sum_T += np.nan_to_num(dice_T)
        self._defined_T += ~np.isnan(dice_T)
        self._ranks.add(probability, truth)

    def pr_auc(self) -> float | None:
        """Return `RankTally.pr_auc`, the area under the precision-recall curve, over all pixels."""
        return self._ranks.pr_auc()

    def roc_auc(self) -> float | None:
        """Return `RankTally.roc_auc`, the area under the ROC curve, over all pixels."""
        return self._ranks.roc_auc()

    def best_youden(self) -> float:
        """Return the threshold with the largest true minus false positive rate; nearest 0.5 among equals."""
        negatives = self.pixels - self.positives
        return self._best(self.tp_T / max(self.positives, 1) - self.fp_T / max(negatives, 1))

    def best_f1(self) -> float:
        """Return the threshold with the largest Dice over all pixels; nearest 0.5 among equals."""
        return self._best(np.nan_to_num(dice(self.tp_T, self.fp_T, self.positives - self.tp_T)))

    @staticmethod
    def _best(score_T: npt.NDArray[np.float64]) -> float:
        """Return the threshold with the largest score; nearest 0.5 among equals."""
        equal = np.flatnonzero(score_T >= score_T.max() - 1e-9)
        nearest = equal[np.abs(CURVE_THRESHOLDS[equal] - 0.5).argmin()]
        return round(float(CURVE_THRESHOLDS[nearest]), 9)

    def pr_table(self) -> pd.DataFrame:
        """Make a table of about a hundred points of the curve: recall, precision, threshold.

        Thresholds above which nothing is predicted are left out.
        """
        wanted = np.flatnonzero((self.tp_T + self.fp_T > 0) & (self.positives > 0))
        recall_T = self.tp_T[wanted] / max(self.positives, 1)
        precision_T = self.tp_T[wanted] / (self.tp_T[wanted] + self.fp_T[wanted])
        columns = {"recall": recall_T, "precision": precision_T, "threshold": CURVE_THRESHOLDS[wanted]}
        return _spread(pd.DataFrame(columns))

    def roc_table(self) -> pd.DataFrame:
        """Make a table of about a hundred points: false_positive_rate, true_positive_rate, threshold."""
        negatives = self.pixels - self.positives
        wanted = np.flatnonzero(np.full(len(CURVE_THRESHOLDS), bool(self.positives and negatives)))
        false_T, true_T = self.fp_T[wanted] / max(negatives, 1), self.tp_T[wanted] / max(self.positives, 1)
        columns = {"false_positive_rate": false_T, "true_positive_rate": true_T, "threshold": CURVE_THRESHOLDS[wanted]}
        return _spread(pd.DataFrame(columns))

    def dice_table(self, subset: str) -> pd.DataFrame:
        """Make a table of threshold, 0.01, 0.02, ..., 0.99, and `subset`_dice.

        `subset`_dice is the mean Dice over the images in which it is defined.
        """
        shown = np.searchsorted(CURVE_THRESHOLDS, _EVEN[1:-1].astype(np.float32))
        defined = self._defined_T[shown]
        means = np.where(defined > 0, self._dice_sum_T[shown] / np.maximum(defined, 1), np.nan)
        return pd.DataFrame({"threshold": _EVEN[1:-1], f"{subset}_dice": means})


def _spread(table: pd.DataFrame) -> pd.DataFrame:
    """Keep about _ROWS points of a curve at most, evenly spread along it, ends included.

    x and y are the table's first two columns.
    """
    if len(table) <= 1:
        return table
    way = np.concatenate([[0.0], np.cumsum(table.iloc[:, :2].diff().abs().sum(axis=1).to_numpy()[1:])])
    stops = np.searchsorted(way, np.linspace(0, way[-1], _ROWS))
    return table.iloc[np.unique(np.append(stops.clip(0, len(table) - 1), len(table) - 1))].reset_index(drop=True)
