"""Areas under precision-recall and ROC curves by the exact order of all probabilities, in bounded memory.

A network that is sure of itself puts most pixels within a hair of 0 and of 1, where no grid of thresholds parts them.
So probabilities are counted one by one: a float32 that isn't negative orders as its bits do, denormals too. Where more
than LIMIT different ones were seen, neighbours share a bin and count as tied. A bin of n pixels then has FINENESS x n
others above it, so that true and false positives, and with them precision, are off by that share at most, and an area
by a few hundred-thousandths; 100,000 million pixels have 1.5 million bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LIMIT = 2**20
FINENESS = 100_000
Probabilities = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


class RankTally:
    """Counts how many pixels have each probability, positives and negatives apart."""

    def __init__(self) -> None:
        self._positive, self._negative = _Histogram(), _Histogram()

    def add(self, probability_HW: Probabilities, truth_HW: npt.NDArray[Any]) -> None:
        """Count one image: foreground probability in [0, 1], and a mask whose values above 0 are positives."""
        probability = np.asarray(probability_HW, np.float32) + np.float32(0)  # which makes -0 a 0
        bits, truth = probability.view(np.uint32), truth_HW > 0
        self._positive.add(bits[truth])
        self._negative.add(bits[~truth])

    def pr_auc(self) -> float | None:
        """Return average precision as scikit-learn's `average_precision_score`; None without positives.

        It is the sum over probabilities, from 1 down, of precision times the gain in recall.
        """
        tp, fp = self._above()
        if not tp[-1]:
            return None
        return round(float(np.sum(np.diff(tp, prepend=0) * (tp / (tp + fp))) / tp[-1]), 9)

    def roc_auc(self) -> float | None:
        """Return the area under the ROC curve; None unless there are positives and negatives.

        It is summed by trapezoids, so that ties count a half.
        """
        tp, fp = self._above()
        if not tp[-1] or not fp[-1]:
            return None
        area = np.trapezoid(np.concatenate([[0.0], tp / tp[-1]]), np.concatenate([[0.0], fp / fp[-1]]))
        return round(float(area), 9)

    def _above(self) -> tuple[Counts, Counts]:
        """Count true and false positives at each probability seen, from the highest down; at least one entry."""
        parts = [self._positive.settled(), self._negative.settled()]
        seen = np.union1d(parts[0][0], parts[1][0])
        counts = np.zeros((2, max(1, len(seen))), np.int64)
        for row, (bits, counted) in zip(counts, parts, strict=True):
            row[np.searchsorted(seen, bits)] = counted
        tp, fp = np.cumsum(counts[:, ::-1], axis=1)
        return tp, fp


class _Histogram:
    """Counts pixels by the bits of their probability."""

    def __init__(self) -> None:
        self._bits: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._counts: Counts = np.zeros(0, np.int64)
        self._waiting: list[tuple[npt.NDArray[np.uint32], Counts]] = []
        self._waits = 0

    def add(self, bits: npt.NDArray[np.uint32]) -> None:
        """Count the pixels of one image by the bits of their probability."""
        values, counts = np.unique(bits, return_counts=True)
        self._waiting.append((values, counts))
        self._waits += len(values)
        if self._waits > LIMIT:
            self._settle()

    def settled(self) -> tuple[npt.NDArray[np.uint32], Counts]:
        """Return the bits that were seen, ascending, and how many pixels have each."""
        self._settle()
        return self._bits, self._counts

    def _settle(self) -> None:
        """Merge the waiting counts; where more than LIMIT different bits remain, join neighbours into bins."""
        bits = np.concatenate([self._bits, *(values for values, _ in self._waiting)])
        counts = np.concatenate([self._counts, *(counted for _, counted in self._waiting)])
        self._waiting, self._waits = [], 0
        order = np.argsort(bits, kind="stable")
        self._bits, self._counts = _joined(bits[order], counts[order], bits[order])
        if len(self._bits) > LIMIT:
            from_the_top = np.cumsum(self._counts[::-1])[::-1]
            label = np.floor(np.log(from_the_top) * FINENESS)
            self._bits, self._counts = _joined(self._bits, self._counts, label)


def _joined(
    bits: npt.NDArray[np.uint32], counts: Counts, label: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.uint32], Counts]:
    """Sum the counts of each run of equal labels, and return each sum with the run's last bits."""
    if not len(bits):
        return bits, counts
    first = np.flatnonzero(np.concatenate([[True], label[1:] != label[:-1]]))
    last = np.append(first[1:], len(bits)) - 1
    return bits[last], np.add.reduceat(counts, first)
