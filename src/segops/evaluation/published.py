"""The evaluation behind the published tables, kept to compare with them.

Everything is at 256x256. The truth, 0 and 255, is resized as OpenCV's `resize` does it with 8-bit images (bilinearly,
half-pixel centres, no antialiasing, fixed-point arithmetic that rounds to 8 bits), divided by 255 and cut at 0.5, so
that an exact tie, 127.5, is foreground; the prediction is the probability of the image stretched to that size, cut at
0.5, whatever the model's threshold.
Accuracy, F1, Jaccard, recall and precision are scikit-learn's for the foreground class by image, an undefined one
counts 0 (so an empty prediction of an empty truth scores 0 but for accuracy), and each is the mean over images.

Axes: H height, W width; h, w are 256.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.contracts.masks import IGNORED, is_foreground
from segops.contracts.scores import PublishedScores
from segops.evaluation.metrics import accuracy, counts

PUBLISHED_SIZE = (256, 256)
_CUT = 0.5
_Whole = npt.NDArray[np.int64]


def published_truth(truth_HW: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the foreground of a mask of class indices, resized to PUBLISHED_SIZE and cut: hw of 0 and 1.

    A pixel into which an ignored one is mixed is IGNORED.
    """
    foreground_hw = _resized(np.where(is_foreground(truth_HW), 255, 0), PUBLISHED_SIZE) / 255 > _CUT
    ignored_hw = _resized(np.where(truth_HW == IGNORED, 255, 0), PUBLISHED_SIZE) > 0
    return np.where(ignored_hw, np.uint8(IGNORED), foreground_hw)


def _resized(grey_HW: npt.NDArray[np.int64], size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Resize an 8-bit image to hw as OpenCV's `resize` does with its default interpolation.

    By OpenCV's `resize.cpp`: weights are 11-bit integers, four bits fall before rows are mixed and sixteen after; and
    where both sides are halved, the mean of four pixels is rounded up at a half. Equal, value by value, to OpenCV 5.0
    at 53 sizes from 1x1 to 2048x2048.
    """
    if grey_HW.shape == (2 * size[0], 2 * size[1]):
        return np.asarray((grey_HW.reshape(size[0], 2, size[1], 2).sum(axis=(1, 3)) + 2) >> 2)
    left_w, right_w, weight_2w = _taps(grey_HW.shape[1], size[1], beyond_edge=False)
    above_h, below_h, weight_2h = _taps(grey_HW.shape[0], size[0], beyond_edge=True)
    mixed_Hw = (grey_HW[:, left_w] * weight_2w[0] + grey_HW[:, right_w] * weight_2w[1]) >> 4
    parts_hw = [
        (weight_h[:, None] * mixed_Hw[rows_h]) >> 16
        for weight_h, rows_h in zip(weight_2h, (above_h, below_h), strict=True)
    ]
    return np.asarray((parts_hw[0] + parts_hw[1] + 2) >> 2)


def _taps(source_px: int, target_px: int, *, beyond_edge: bool) -> tuple[_Whole, _Whole, _Whole]:
    """Return the two source pixels of each target pixel along an axis, and their weights in 2048ths.

    Args:
        beyond_edge: mix an edge pixel with its own repetition, as OpenCV does along columns, which can lose a level;
            else take it alone, as along rows.
    """
    scale = 1 / (target_px / source_px)  # OpenCV's order of divisions
    position = ((np.arange(target_px) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position)
    share = position - first
    if not beyond_edge:
        share = np.where((first < 0) | (first >= source_px - 1), np.float32(0), share)
    weights = np.rint(np.stack([1 - share, share]) * np.float32(2048)).astype(np.int64)
    near = first.astype(np.int64)
    return near.clip(0, source_px - 1), (near + 1).clip(0, source_px - 1), weights


def image_published_scores(truth_hw: npt.NDArray[Any], probability_hw: npt.NDArray[np.float32]) -> PublishedScores:
    """Score one image: truth from `published_truth`, foreground probability at the same size."""
    tp, fp, fn, tn = counts(truth_hw, probability_hw > _CUT)
    return PublishedScores(
        accuracy=accuracy(tp, fp, fn, tn),
        f1=_or_zero(2 * tp, 2 * tp + fp + fn),
        jaccard=_or_zero(tp, tp + fp + fn),
        recall=_or_zero(tp, tp + fn),
        precision=_or_zero(tp, tp + fp),
    )


def published_mean(images: Iterable[PublishedScores]) -> PublishedScores:
    """Return the mean over images of each score."""
    rows = [image.model_dump() for image in images]
    return PublishedScores(**{name: round(float(np.mean([row[name] for row in rows])), 9) for name in rows[0]})


def _or_zero(numerator: int, denominator: int) -> float:
    """Return the quotient, or 0 where the denominator is 0."""
    return numerator / denominator if denominator else 0.0
