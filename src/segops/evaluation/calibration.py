"""How far probabilities are frequencies: reliability and expected calibration error over pixels.

Confidence is the foreground probability, and a hit is foreground; of several classes confidence is the likeliest
class's probability, and a hit is a pixel of that class. Bins are (m/15, (m + 1)/15], the first bin with 0, as in Guo et
al. 2017, "On Calibration of Modern Neural Networks", section 2. ECE is the mean over pixels of |frequency - mean
confidence| of their bins.

Axes: H height, W width, K output channels, M bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from segops.contracts.scores import ReliabilityBin
from segops.evaluation.scored_pixels import scored

BINS = 15
_EDGES = np.arange(BINS + 1) / BINS


class ReliabilityTally:
    """Holds the pixels, confidences and hits of each bin over the images added so far."""

    def __init__(self) -> None:
        self.pixels_M = np.zeros(BINS, np.int64)
        self.hits_M = np.zeros(BINS, np.int64)
        self.confidence_M = np.zeros(BINS)

    def add(self, probability_KHW: npt.NDArray[np.float32], truth_HW: npt.NDArray[Any]) -> None:
        """Count one image: its probability, K = 1 (foreground) for two classes, and its mask of class indices."""
        truth, probability = scored(truth_HW, probability_KHW)
        confidence, hit = confidence_of(probability), _hits(probability, truth)
        bins = np.clip(np.searchsorted(_EDGES, confidence.ravel(), side="left") - 1, 0, BINS - 1)
        self.pixels_M += np.bincount(bins, minlength=BINS)
        self.hits_M += np.bincount(bins[hit.ravel()], minlength=BINS)
        self.confidence_M += np.bincount(bins, weights=confidence.ravel(), minlength=BINS)

    def ece(self) -> float:
        """Return the expected calibration error, 0..1. Raises ValueError without a pixel."""
        if not self.pixels_M.any():
            raise ValueError("a calibration error needs at least one image")
        return round(float(np.abs(self.hits_M - self.confidence_M).sum() / self.pixels_M.sum()), 9)

    def bins(self) -> list[ReliabilityBin]:
        """Return the bins in ascending order, each with its pixels, mean confidence and frequency of hits."""
        return [
            ReliabilityBin(
                low=round(at / BINS, 9),
                high=round((at + 1) / BINS, 9),
                pixels=pixels,
                confidence=round(confidence / pixels, 9) if pixels else None,
                frequency=round(hits / pixels, 9) if pixels else None,
            )
            for at, (pixels, hits, confidence) in enumerate(
                zip(self.pixels_M.tolist(), self.hits_M.tolist(), self.confidence_M.tolist(), strict=True)
            )
        ]


def confidence_of(probability_KHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the confidence HW: the foreground probability of two classes, the likeliest class's of several."""
    return np.asarray(probability_KHW.max(axis=0))


def _hits(probability_KHW: npt.NDArray[np.float32], truth_HW: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which pixels HW are hits: foreground of two classes, else those whose likeliest class is the truth."""
    if len(probability_KHW) == 1:
        return np.asarray(truth_HW > 0)
    return np.asarray(probability_KHW.argmax(axis=0) == truth_HW)


def reliability_table(bins: dict[str, list[ReliabilityBin]]) -> pd.DataFrame:
    """Make a table of all bins: subset, low, high, pixels, confidence, frequency.

    Confidence and frequency are none where a bin has no pixel.
    """
    rows = [{"subset": subset, **part.model_dump()} for subset, found in bins.items() for part in found]
    return pd.DataFrame(rows, columns=["subset", *ReliabilityBin.model_fields])
