"""Turns probabilities into a mask: a threshold or the likeliest class, then cleaning.

Axes: H height, W width, K output channels; volumes have a depth D before H. Objects and holes are 4-connected, of
volumes by their faces.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segops.params.inference import CleaningParams

Mask = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

_OTSU_BINS = 256


def foreground_of(probability_KHW: Floats) -> Floats:
    """Return the foreground probability HW: the single channel of two classes, or 1 - background of several."""
    first_HW: Floats = probability_KHW[0]
    return first_HW if len(probability_KHW) == 1 else 1 - first_HW


def mask_of(probability_KHW: Floats, threshold: float | None) -> Mask:
    """Return class indices HW: the likeliest, or for two classes foreground above the threshold (None: `otsu`)."""
    if len(probability_KHW) > 1:
        assert threshold is None, "several classes have no threshold"
        return np.asarray(probability_KHW.argmax(axis=0), np.uint8)
    cut = otsu(probability_KHW[0]) if threshold is None else threshold
    return np.asarray(probability_KHW[0] > np.float32(cut), np.uint8)


def otsu(probability_HW: Floats) -> float:
    """Return the threshold that best parts an image's probabilities in two (Otsu 1979), among 256 bins of [0, 1].

    An image whose probabilities all lie in the same bin has nothing to part: 0.5.
    """
    from skimage.filters import threshold_otsu

    counted, edges = np.histogram(probability_HW, bins=_OTSU_BINS, range=(0, 1))
    if np.count_nonzero(counted) < 2:
        return 0.5
    # The cut is the upper edge of the last bin that is background; equal shifts of all bins change nothing else.
    return float(threshold_otsu(hist=(counted, edges[1:])))


def clean_mask(mask_HW: npt.NDArray[Any], cleaning: CleaningParams) -> Mask:
    """Clean a mask of class indices HW by the steps of `cleaning`, in the order that `CleaningParams` states.

    Each class is changed by itself. What it loses becomes background; it gains pixels of background alone; where two
    classes would gain a pixel, the first does.
    """
    if cleaning == CleaningParams():
        return np.asarray(mask_HW, np.uint8)
    cleaned_HW, background_HW = np.zeros(mask_HW.shape, np.uint8), mask_HW == 0
    for index in np.unique(mask_HW[~background_HW]):
        own_HW = mask_HW == index
        kept_HW = _cleaned(own_HW, cleaning)
        cleaned_HW[kept_HW & (own_HW | (background_HW & (cleaned_HW == 0)))] = index
    return cleaned_HW


def _cleaned(object_HW: Bits, cleaning: CleaningParams) -> Bits:
    """Open, close, fill and remove objects of a class, as far as `cleaning` asks for it."""
    from skimage.morphology import remove_small_holes, remove_small_objects

    if cleaning.open_px:
        object_HW = ~_closed(~object_HW, cleaning.open_px)
    if cleaning.close_px:
        object_HW = _closed(object_HW, cleaning.close_px)
    if cleaning.fill_holes_px:
        object_HW = remove_small_holes(object_HW, max_size=cleaning.fill_holes_px)
    if cleaning.remove_small_px:
        object_HW = remove_small_objects(object_HW, max_size=cleaning.remove_small_px)
    return largest_object(object_HW) if cleaning.largest_only else object_HW


def _closed(object_HW: Bits, radius_px: int) -> Bits:
    """Close objects by a disc, with background beyond the image: an object near the edge isn't glued to it.

    Opening is the closing of the background: it takes nothing from an object that the edge cuts.
    """
    from scipy.ndimage import distance_transform_edt

    if not object_HW.any():
        return object_HW  # the transform of an image without background is undefined
    grown_HW = distance_transform_edt(np.pad(~object_HW, radius_px, constant_values=True)) <= radius_px
    closed_HW = distance_transform_edt(grown_HW) > radius_px
    return np.asarray(closed_HW[(slice(radius_px, -radius_px),) * closed_HW.ndim])


def largest_object(object_HW: Bits) -> Bits:
    """Keep the largest 4-connected object; of equally large objects the first in reading order.

    Nothing stays nothing.
    """
    from scipy.ndimage import label

    labels_HW, count = label(object_HW)
    if not count:
        return object_HW
    sizes = np.bincount(labels_HW.ravel())[1:]
    return np.asarray(labels_HW == 1 + int(sizes.argmax()))
