"""Surface Dice at a tolerance, as DeepMind defines it (Nikolov et al. 2018, arXiv 1809.04430, section "Surface DSC").

The share of both surfaces that lies within the tolerance of the other one. A surface runs between voxels: each corner
of eight voxels that aren't all alike has a piece of it, whose area follows from marching cubes (MONAI has the authors'
table). A piece's distance is that of its corner to the nearest corner with a piece of the other surface.

Axes: D depth, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segops.contracts.volumes import Spacing
from segops.evaluation.surface import box_of

Mask = npt.NDArray[Any]

_INSIDE = 255  # the code of eight voxels of the mask


def surface_dice(truth_DHW: Mask, predicted_DHW: Mask, spacing_mm: Spacing, tolerance_mm: float) -> float:
    """Compute surface Dice of two boolean masks: NaN where both are empty, 0 where one is."""
    either = truth_DHW | predicted_DHW
    if not either.any():
        return float("nan")
    if not truth_DHW.any() or not predicted_DHW.any():
        return 0.0
    from monai.metrics.utils import create_table_neighbour_code_to_surface_area
    from scipy.ndimage import distance_transform_edt

    areas, kernel = create_table_neighbour_code_to_surface_area(spacing_mm)
    box, weights = box_of(either), kernel.numpy().reshape(2, 2, 2)
    truth, predicted = (_codes(mask[box], weights) for mask in (truth_DHW, predicted_DHW))
    within = total = 0.0
    for own, other in ((truth, predicted), (predicted, truth)):
        own_areas = areas.numpy().astype(np.float64)[own[_is_surface(own)]]
        distances = distance_transform_edt(~_is_surface(other), sampling=spacing_mm)[_is_surface(own)]
        within += float(own_areas[distances <= tolerance_mm].sum())
        total += float(own_areas.sum())
    return within / total


def _codes(mask_DHW: Mask, weights: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return which of the eight voxels around each corner belong to a mask, as a number of eight bits."""
    from scipy.ndimage import correlate

    return np.asarray(correlate(np.pad(mask_DHW, (0, 1)).astype(np.uint8), weights, mode="constant"))


def _is_surface(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which corners have a piece of the surface."""
    return np.asarray((codes != 0) & (codes != _INSIDE))
