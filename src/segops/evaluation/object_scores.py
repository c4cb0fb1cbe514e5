"""Average precision of objects (Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7; StarDist's `matching`).

At an IoU threshold, predicted and true objects are matched one to one, as many as possible with at least that IoU. TP
are the pairs, FP and FN what is left over on either side, and AP = TP / (TP + FP + FN). Above 0.5 an object has one
partner at most; at exactly 0.5 it may have two, and the matching is a maximum one. Where neither side has an object AP
is undefined, NaN, as Dice is, and left out of means (StarDist gives 0); where one side has none it is 0.

Panoptic quality (Kirillov et al. 2019, equation 2) is the sum of the IoU of the pairs above 0.5 over TP + FP / 2 +
FN / 2, of an image. A split is a true object within which more than half of each of several predicted ones lies, a
merge a predicted object within which more than half of each of several true ones lies.

The truth's objects are those of the source. Where it tells none apart they are the connected components of its masks:
objects that touch there are one, so that a prediction that parts them rightly loses.

Pixels that the truth ignores belong to no object of either side. A predicted object of which more than half lies there
is left out unless what is left of it has a partner of IoU 0.5, as COCO's evaluation leaves out what lies in crowds.

Axes: H height, W width, N true and M predicted objects, I IoU thresholds, F foreground classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from segops.contracts.scores import InstanceScores, TrueObjects
from segops.evaluation.metrics import defined_mean
from segops.evaluation.scored_pixels import blank, mostly_ignored
from segops.inference.instances import components

Labels = npt.NDArray[Any]

IOUS = tuple(step / 20 for step in range(10, 20))
"""0.5, 0.55, ..., 0.95."""
_PARTNER_IOU = 0.5  # above it an object has one partner at most


class Matches:
    """Compares the objects of two label maps of one size, 0 background; numbers may have gaps.

    Attributes:
        true, predicted: how many objects.
        shared_NM: pixels of each pair that overlaps, sparse, in the order of the numbers.
        iou_NM: IoU of the same pairs.
    """

    def __init__(self, truth_HW: Labels, predicted_HW: Labels) -> None:
        from scipy.sparse import coo_array

        if truth_HW.shape != predicted_HW.shape:
            raise ValueError(f"truth {truth_HW.shape} and prediction {predicted_HW.shape} differ in size")
        pairs = truth_HW.ravel().astype(np.int64), predicted_HW.ravel().astype(np.int64)
        both = coo_array((np.ones(truth_HW.size, np.int64), pairs)).tocsr()
        true_px, predicted_px = (np.asarray(both.sum(axis=axis)) for axis in (1, 0))
        true, found = (np.flatnonzero(pixels[1:]) + 1 for pixels in (true_px, predicted_px))
        self._true_px, self._predicted_px = true_px[true], predicted_px[found]
        self.shared_NM = both[true][:, found].tocoo()
        n, m, shared = self.shared_NM.row, self.shared_NM.col, self.shared_NM.data
        union = self._true_px[n] + self._predicted_px[m] - shared
        self.iou_NM = coo_array((shared / union, (n, m)), shape=self.shared_NM.shape)
        self.true, self.predicted = self.iou_NM.shape

    def pairs(self, least: float) -> int:
        """Return the largest number of pairs with at least that IoU, each object in one pair."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_bipartite_matching

        enough = self.iou_NM.data >= least
        if not enough.any():
            return 0
        n, m = self.iou_NM.row[enough], self.iou_NM.col[enough]
        partners = maximum_bipartite_matching(csr_array((enough[enough], (n, m)), shape=self.iou_NM.shape))
        return int(np.count_nonzero(partners >= 0))

    def average_precision(self) -> npt.NDArray[np.float64]:
        """Compute AP at each of IOUS; NaN where neither side has an object."""
        if not self.true and not self.predicted:
            return np.full(len(IOUS), np.nan)
        pairs_I = np.array([self.pairs(least) for least in IOUS])
        return np.asarray(pairs_I / (self.true + self.predicted - pairs_I))

    def panoptic_quality(self) -> float:
        """Compute panoptic quality; NaN where neither side has an object."""
        if not self.true and not self.predicted:
            return float("nan")
        matched = self.iou_NM.data[self.iou_NM.data > _PARTNER_IOU]
        return float(2 * matched.sum() / (self.true + self.predicted))

    def splits(self) -> int:
        """Count the true objects that the prediction cuts."""
        inside = 2 * self.shared_NM.data > self._predicted_px[self.shared_NM.col]
        return int(np.count_nonzero(np.bincount(self.shared_NM.row[inside], minlength=1) > 1))

    def merges(self) -> int:
        """Count the predicted objects that join true ones."""
        inside = 2 * self.shared_NM.data > self._true_px[self.shared_NM.row]
        return int(np.count_nonzero(np.bincount(self.shared_NM.col[inside], minlength=1) > 1))


def average_precision(truth_HW: Labels, predicted_HW: Labels) -> npt.NDArray[np.float64]:
    """Compute AP at each of IOUS for one image and class; inputs are labels, 0 background."""
    return Matches(truth_HW, predicted_HW).average_precision()


def _matches(true_HW: Labels, predicted_HW: Labels, truth_HW: Labels) -> Matches:
    """Compare the objects of a class by the pixels that the truth, a mask of class indices, doesn't ignore."""
    left_out = mostly_ignored(truth_HW, predicted_HW)
    _, true_HW, predicted_HW = blank(truth_HW, true_HW, predicted_HW)
    matches = Matches(true_HW, predicted_HW)
    if not len(left_out):
        return matches
    partnered = matches.iou_NM.col[matches.iou_NM.data >= _PARTNER_IOU]
    numbers = np.unique(predicted_HW[predicted_HW > 0])
    left_out = np.setdiff1d(left_out, numbers[partnered])
    return Matches(true_HW, np.where(np.isin(predicted_HW, left_out), 0, predicted_HW))


class InstanceTally:
    """Holds counts and AP of objects over the images added so far.

    Attributes:
        component_images: those whose source tells no objects apart.
    """

    def __init__(self) -> None:
        self.images = self.component_images = 0
        self.objects = self.predicted = self.splits = self.merges = 0
        self._ap_NI: list[npt.NDArray[np.float64]] = []

    def add(
        self,
        truth_HW: Labels,
        predicted_HW: Labels,
        objects_HW: Labels,
        classes: int,
        true_objects_HW: Labels | None = None,
    ) -> dict[str, float | int]:
        """Match one image's objects, and return their columns of per_image.csv.

        Args:
            truth_HW: class indices, and IGNORED.
            predicted_HW: class indices.
            objects_HW: labels of predicted objects, each within one class.
            classes: with background. AP and panoptic quality are the means over the foreground classes in which either
                side has an object.
            true_objects_HW: labels of the source's objects; None: the 4-connected components of each class.
        """
        by_class = []
        for index in range(1, classes):
            own_HW = truth_HW == index
            true_HW = components(own_HW) if true_objects_HW is None else np.where(own_HW, true_objects_HW, 0)
            by_class.append(_matches(true_HW, np.where(predicted_HW == index, objects_HW, 0), truth_HW))
        ap_I = defined_mean([matches.average_precision() for matches in by_class], axis=0)
        counts = {
            "objects": sum(matches.true for matches in by_class),
            "predicted_objects": sum(matches.predicted for matches in by_class),
            "splits": sum(matches.splits() for matches in by_class),
            "merges": sum(matches.merges() for matches in by_class),
        }
        self.images += 1
        self.component_images += true_objects_HW is None
        self.objects += counts["objects"]
        self.predicted += counts["predicted_objects"]
        self.splits += counts["splits"]
        self.merges += counts["merges"]
        self._ap_NI.append(ap_I)
        pq = float(defined_mean([np.array([matches.panoptic_quality()]) for matches in by_class], axis=0)[0])
        return {**counts, "ap": float(ap_I.mean()), "ap50": float(ap_I[0]), "pq": pq}

    @property
    def truth(self) -> TrueObjects:
        """What counted as the truth's objects."""
        if not self.component_images:
            return "objects of the source"
        return "connected components" if self.component_images == self.images else "mixed"

    def means(self) -> list[float]:
        """Return AP at each of IOUS, the mean over the images in which it is defined."""
        return [round(float(ap), 9) for ap in defined_mean(self._ap_NI, axis=0)]


def instance_table(found: dict[str, InstanceScores]) -> pd.DataFrame:
    """Make a table of subset, iou and ap, the mean over images of AP at each IoU.

    Candidates that tell no objects apart have no row.
    """
    rows = [(subset, float(iou), ap) for subset, scores in found.items() for iou, ap in scores.by_iou.items()]
    return pd.DataFrame(rows, columns=["subset", "iou", "ap"])
