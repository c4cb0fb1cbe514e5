"""Maps of what objects are to a pixel: where background lies between two of them, and how deep in one a pixel is.

Axes: H height, W width; h, w of a part of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from segops.contracts.masks import IGNORED
from segops.params.candidate import NetworkParams
from segops.params.loss import BoundaryBCELoss

_REACH = 5.0  # standard deviations; beyond it the map is below 4e-6

BORDER, DEPTH = "border_BHW", "depth_BHW"
"""The maps' names, as `Loss` takes them."""


MapOf = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""From class indices HW and labels of objects HW, or None where the source tells none apart, to a map HW."""


def wanted_maps(params: NetworkParams) -> dict[str, tuple[str, MapOf]]:
    """Return what a network is trained with beside masks: by name what identifies the map, and how it is computed."""
    wanted: dict[str, tuple[str, MapOf]] = {}
    if isinstance(params.recipe.loss, BoundaryBCELoss):
        sigma_px = float(params.recipe.loss.sigma_px)
        wanted[BORDER] = f"border {sigma_px!r}", lambda mask_HW, objects_HW: border_map(mask_HW, sigma_px, objects_HW)
    if params.objects is not None:
        wanted[DEPTH] = "depth", depth_map
    return wanted


def border_map(mask_HW: np.ndarray, sigma_px: float, objects_HW: np.ndarray | None = None) -> np.ndarray:
    """Compute exp(-(d1 + d2)^2 / (2 sigma^2)) of each background pixel, 0 in objects; float16 HW in [0, 1].

    d1 and d2 are the pixel's distances to the nearest and second nearest object (Ronneberger et al. 2015, equation 2).
    Fewer than two objects near by count as 0.

    Args:
        mask_HW: class indices.
        objects_HW: labels; None: the 8-connected components of each foreground class.
    """
    from scipy import ndimage

    margin = math.ceil(_REACH * sigma_px)
    nearest_HW, second_HW = (np.full(mask_HW.shape, np.inf, np.float32) for _ in range(2))
    labels_HW = labels(mask_HW, objects_HW)
    for number, place in enumerate(ndimage.find_objects(labels_HW), start=1):
        if place is None:  # a number that no pixel has, such as of an object that resizing lost
            continue
        around = tuple(slice(max(0, span.start - margin), span.stop + margin) for span in place)
        distance_hw = ndimage.distance_transform_edt(labels_HW[around] != number).astype(np.float32)
        nearest_hw, second_hw = nearest_HW[around], second_HW[around]
        second_HW[around] = np.minimum(second_hw, np.maximum(nearest_hw, distance_hw))
        nearest_HW[around] = np.minimum(nearest_hw, distance_hw)
    between_HW = np.exp(-((nearest_HW + second_HW) ** 2) / (2 * sigma_px**2))
    return np.where(mask_HW == 0, between_HW, 0).astype(np.float16)


def depth_map(mask_HW: np.ndarray, objects_HW: np.ndarray | None = None) -> np.ndarray:
    """Compute how deep in its object each pixel is: its distance to what isn't the object, over the object's largest.

    The image's edge is no border, since a patch's edge isn't one either, nor are ignored pixels. Float16 HW in [0, 1],
    0 in background; arguments as of `border_map`.
    """
    from scipy import ndimage

    labels_HW, ignored_HW = labels(mask_HW, objects_HW), mask_HW == IGNORED
    depth_HW = np.zeros(labels_HW.shape, np.float32)
    for number, place in enumerate(ndimage.find_objects(labels_HW), start=1):
        if place is None:
            continue
        around = tuple(slice(max(0, span.start - 1), span.stop + 1) for span in place)
        own_hw = labels_HW[around] == number
        inside_hw = own_hw | ignored_HW[around]
        # An object that fills the image has no border.
        distance_hw = np.ones(own_hw.shape) if inside_hw.all() else ndimage.distance_transform_edt(inside_hw)
        depth_HW[around][own_hw] = distance_hw[own_hw] / distance_hw[own_hw].max()
    return depth_HW.astype(np.float16)


def labels(mask_HW: np.ndarray, objects_HW: np.ndarray | None) -> np.ndarray:
    """Return objects as labels HW int32, 0 elsewhere; without them 8-connected components, class by class."""
    from scipy import ndimage

    if objects_HW is not None:
        return np.where(mask_HW > 0, objects_HW, 0).astype(np.int32)
    labels_HW = np.zeros(mask_HW.shape, np.int32)
    for index in np.setdiff1d(mask_HW, [0, IGNORED]):
        own_HW, _ = ndimage.label(mask_HW == index, structure=np.ones((3, 3)))
        labels_HW[own_HW > 0] = own_HW[own_HW > 0] + labels_HW.max()
    return labels_HW
