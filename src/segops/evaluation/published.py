"""The evaluation behind the published tables, kept to compare with them.

Everything is at 256x256. The truth is resized bilinearly with half-pixel centres and without antialiasing, then cut at
0.5; the prediction is the probability of the image stretched to that size, cut at 0.5, whatever the model's threshold.
Accuracy, F1, Jaccard, recall and precision are scikit-learn's for the foreground class by image, an undefined one
counts 0 (so an empty prediction of an empty truth scores 0 but for accuracy), and each is the mean over images.

Axes: H height, W width; h, w are 256.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.evaluation.metrics import accuracy, counts
from segops.scores import PublishedScores

PUBLISHED_SIZE = (256, 256)
_CUT = 0.5


def published_truth(truth_HW: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """The foreground of a mask of class indices, resized to PUBLISHED_SIZE and cut: bool hw."""
    import torch
    from torch.nn.functional import interpolate

    foreground = torch.from_numpy((truth_HW > 0).astype(np.float32))
    resized = interpolate(foreground[None, None], PUBLISHED_SIZE, mode="bilinear", align_corners=False, antialias=False)
    return np.asarray(resized[0, 0].numpy() > _CUT)


def image_published_scores(truth_hw: npt.NDArray[np.bool_], probability_hw: npt.NDArray[np.float32]) -> PublishedScores:
    """One image's scores: truth from `published_truth`, foreground probability at the same size."""
    tp, fp, fn, tn = counts(truth_hw, probability_hw > _CUT)
    return PublishedScores(
        accuracy=accuracy(tp, fp, fn, tn),
        f1=_or_zero(2 * tp, 2 * tp + fp + fn),
        jaccard=_or_zero(tp, tp + fp + fn),
        recall=_or_zero(tp, tp + fn),
        precision=_or_zero(tp, tp + fp),
    )


def published_mean(images: Iterable[PublishedScores]) -> PublishedScores:
    """The mean over images of each score."""
    rows = [image.model_dump() for image in images]
    return PublishedScores(**{name: round(float(np.mean([row[name] for row in rows])), 9) for name in rows[0]})


def _or_zero(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else 0.0
