"""Maps how far each pixel lies from a class's border, for the boundary loss of Kervadec et al. 2019.

Axes: B batch, K classes or sigmoids, H height, W width, and a depth D before H of volumes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def signed_distances(target_BKHW: Tensor, known_BHW: Tensor, steps: Sequence[float] | None = None) -> Tensor:
    """Return the distances of pixels outside a class to it, and of pixels inside the negative ones to what is outside.

    As in the authors' `one_hot2dist`: a pixel outside has the distance to the nearest one inside; a pixel inside that
    to the nearest one outside, less one pixel, with a minus, so that the border's pixels have 0. A class that an image
    lacks, or that fills it, has 0 everywhere. Distances end at the edges of the image or patch.

    Args:
        target_BKHW: 0 and 1.
        known_BHW: whether a pixel's class is known; the others are neither inside nor outside.
        steps: how far pixels are apart along each axis; distances are in the smallest of these. None: alike.

    Returns: float32 on the device of the target.
    """
    inside_BKHW = target_BKHW.detach().cpu().numpy() > 0
    spacing = np.ones(inside_BKHW.ndim - 2) if steps is None else np.asarray(steps, np.float64) / min(steps)
    maps = [
        [_of_mask(inside_HW, known_HW & ~inside_HW, spacing) for inside_HW in inside_KHW]
        for inside_KHW, known_HW in zip(inside_BKHW, known_BHW.cpu().numpy(), strict=True)
    ]
    return torch.from_numpy(np.array(maps, np.float32)).to(target_BKHW.device)


def _of_mask(
    inside_HW: npt.NDArray[np.bool_], outside_HW: npt.NDArray[np.bool_], spacing: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the signed distances of a class in an image."""
    from scipy.ndimage import distance_transform_edt

    if not inside_HW.any() or not outside_HW.any():
        return np.zeros(inside_HW.shape)
    to_inside, to_outside = (distance_transform_edt(~part, sampling=spacing) for part in (inside_HW, outside_HW))
    return np.asarray(np.where(inside_HW, 1 - to_outside, to_inside))
