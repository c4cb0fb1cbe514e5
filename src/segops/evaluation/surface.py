"""Distances between the borders of two masks, in pixels, or of volumes in mm.

A border pixel is a foreground pixel with a neighbour across a side outside the mask; the image's edge counts too.
Distances run from each border pixel to the nearest border pixel of the other mask, both ways (Taha and Hanbury 2015,
doi:10.1186/s12880-015-0068-x), as in MONAI's HausdorffDistanceMetric and SurfaceDistanceMetric.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[Any]


class SurfaceDistances(NamedTuple):
    """Holds distances; NaN, all three, where a mask has no foreground.

    Attributes:
        hd95: the larger of the two directed 95th percentiles (linear interpolation).
        hd: the maximum Hausdorff distance, the larger of the two directed maxima.
        assd: the mean over the border pixels of both masks.
    """

    hd95: float
    hd: float
    assd: float


def surface_distances(truth_HW: Mask, predicted_HW: Mask, spacing: Sequence[float] | None = None) -> SurfaceDistances:
    """Compute HD95, maximum Hausdorff and ASSD of two boolean masks.

    Args:
        truth_HW, predicted_HW: of volumes DHW.
        spacing: of pixels along each axis, in whose unit distances are; None: 1.
    """
    if not truth_HW.any() or not predicted_HW.any():
        return SurfaceDistances(*[float("nan")] * 3)
    box = box_of(truth_HW | predicted_HW)
    truth, predicted = _border(truth_HW[box]), _border(predicted_HW[box])
    to_truth, to_predicted = _distance_to(truth, spacing)[predicted], _distance_to(predicted, spacing)[truth]
    hd95 = max(np.percentile(to_truth, 95), np.percentile(to_predicted, 95))
    hd = max(to_truth.max(), to_predicted.max())
    assd = (to_truth.sum() + to_predicted.sum()) / (to_truth.size + to_predicted.size)
    return SurfaceDistances(float(hd95), float(hd), float(assd))


def _border(mask_HW: Mask) -> Mask:
    """Return the mask's foreground pixels with a 4-neighbour outside it."""
    from scipy.ndimage import binary_erosion

    return np.asarray(mask_HW & ~binary_erosion(mask_HW))


def box_of(mask_HW: Mask) -> tuple[slice, ...]:
    """Return the smallest part of an array that holds a mask's foreground."""
    axes = range(mask_HW.ndim)
    lines = [np.flatnonzero(mask_HW.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    return tuple(slice(line[0], line[-1] + 1) for line in lines)


def _distance_to(border_HW: Mask, spacing: Sequence[float] | None) -> npt.NDArray[np.float64]:
    """Return each pixel's distance to the nearest border pixel."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~border_HW, sampling=spacing))
