"""Distances between the borders of two masks, in pixels.

A border pixel is a foreground pixel with a 4-neighbour outside the mask; the image's edge counts as outside. Distances
run from each border pixel to the nearest border pixel of the other mask, both ways (Taha and Hanbury 2015,
doi:10.1186/s12880-015-0068-x), as in MONAI's HausdorffDistanceMetric and SurfaceDistanceMetric.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[Any]


def surface_distances(truth_HW: Mask, predicted_HW: Mask) -> tuple[float, float]:
    """HD95 and ASSD in pixels; NaN both where a mask has no foreground.

    HD95 is the larger of the two directed 95th percentiles (linear interpolation); ASSD is the mean over the border
    pixels of both masks.
    """
    if not truth_HW.any() or not predicted_HW.any():
        return float("nan"), float("nan")
    either = truth_HW | predicted_HW
    box = tuple(slice(np.flatnonzero(line)[0], np.flatnonzero(line)[-1] + 1) for line in (either.any(1), either.any(0)))
    truth, predicted = _border(truth_HW[box]), _border(predicted_HW[box])
    to_truth, to_predicted = _distance_to(truth)[predicted], _distance_to(predicted)[truth]
    hd95 = max(np.percentile(to_truth, 95), np.percentile(to_predicted, 95))
    assd = (to_truth.sum() + to_predicted.sum()) / (to_truth.size + to_predicted.size)
    return float(hd95), float(assd)


def _border(mask_HW: Mask) -> Mask:
    from scipy.ndimage import binary_erosion

    return np.asarray(mask_HW & ~binary_erosion(mask_HW))


def _distance_to(border_HW: Mask) -> npt.NDArray[np.float64]:
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~border_HW))
