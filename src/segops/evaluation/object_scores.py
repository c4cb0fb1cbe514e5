"""Average precision of objects (Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7; StarDist's `matching`).

At an IoU threshold, predicted and true objects are matched one to one, as many as possible with at least that IoU. TP
are the pairs, FP and FN what is left over on either side, and AP = TP / (TP + FP + FN). Above 0.5 an object has one
partner at most; at exactly 0.5 it may have two, and the matching is a maximum one. Where neither side has an object AP
is undefined, NaN, as Dice is, and left out of means (StarDist gives 0); where one side has none it is 0.

The truth's objects are the connected components of its masks: objects that touch there are one, so that a prediction
that parts them rightly loses.

Axes: H height, W width, N true and M predicted objects, I IoU thresholds, F foreground classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from segops.contracts.scores import InstanceScores
from segops.evaluation.metrics import defined_mean
from segops.inference.instances import components

Labels = npt.NDArray[Any]

IOUS = tuple(step / 20 for step in range(10, 20))
"""0.5, 0.55, ..., 0.95."""


def average_precision(truth_HW: Labels, predicted_HW: Labels) -> npt.NDArray[np.float64]:
    """Compute AP at each of IOUS for one image and class.

    Inputs are labels (0 background); AP is NaN where neither side has an object.
    """
    iou_NM = overlaps(truth_HW, predicted_HW)
    true, predicted = iou_NM.shape
    if not true and not predicted:
        return np.full(len(IOUS), np.nan)
    pairs_I = np.array([_pairs(iou_NM, least) for least in IOUS])
    return np.asarray(pairs_I / (true + predicted - pairs_I))


def overlaps(truth_HW: Labels, predicted_HW: Labels) -> npt.NDArray[np.float64]:
    """Compute the IoU of each true with each predicted object, in the order of their numbers, which may have gaps."""
    if truth_HW.shape != predicted_HW.shape:
        raise ValueError(f"truth {truth_HW.shape} and prediction {predicted_HW.shape} differ in size")
    true, at_true = np.unique(truth_HW, return_inverse=True)
    found, at_found = np.unique(predicted_HW, return_inverse=True)
    both = np.bincount(at_true.ravel() * len(found) + at_found.ravel(), minlength=len(true) * len(found))
    pixels_NM = both.reshape(len(true), len(found))
    union_NM = pixels_NM.sum(axis=1)[:, None] + pixels_NM.sum(axis=0)[None, :] - pixels_NM
    return np.asarray((pixels_NM / union_NM)[true != 0][:, found != 0])


def _pairs(iou_NM: npt.NDArray[np.float64], least: float) -> int:
    """Return the largest number of pairs with at least that IoU, each object in one pair."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if not iou_NM.size:
        return 0
    partners = maximum_bipartite_matching(csr_array(iou_NM >= least))
    return int(np.count_nonzero(partners >= 0))


class InstanceTally:
    """Holds counts and AP of objects over the images added so far."""

    def __init__(self) -> None:
        self.images = 0
        self.objects = 0
        self.predicted = 0
        self._ap_NI: list[npt.NDArray[np.float64]] = []

    def add(self, truth_HW: Labels, predicted_HW: Labels, objects_HW: Labels, classes: int) -> dict[str, float | int]:
        """Match one image's objects, and return their columns of per_image.csv.

        Args:
            truth_HW: class indices; its objects are the 4-connected components of each class.
            predicted_HW: class indices.
            objects_HW: labels of predicted objects, each within one class.
            classes: with background. AP is the mean over the foreground classes in which either side has an object.
        """
        ap_FI = []
        true = predicted = 0
        for index in range(1, classes):
            true_HW = components(truth_HW == index)
            found_HW = np.where(predicted_HW == index, objects_HW, 0)
            ap_FI.append(average_precision(true_HW, found_HW))
            true += int(true_HW.max())
            predicted += len(np.unique(found_HW[found_HW > 0]))
        ap_I = defined_mean(ap_FI, axis=0)
        self.images += 1
        self.objects += true
        self.predicted += predicted
        self._ap_NI.append(ap_I)
        return {"objects": true, "predicted_objects": predicted, "ap": float(ap_I.mean()), "ap50": float(ap_I[0])}

    def means(self) -> list[float]:
        """Return AP at each of IOUS, the mean over the images in which it is defined."""
        return [round(float(ap), 9) for ap in defined_mean(self._ap_NI, axis=0)]


def instance_table(found: dict[str, InstanceScores]) -> pd.DataFrame:
    """Make a table of subset, iou and ap, the mean over images of AP at each IoU.

    Candidates that tell no objects apart have no row.
    """
    rows = [(subset, float(iou), ap) for subset, scores in found.items() for iou, ap in scores.by_iou.items()]
    return pd.DataFrame(rows, columns=["subset", "iou", "ap"])
