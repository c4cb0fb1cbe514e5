"""Tells objects apart: 4-connected components of a mask, or these cut by a watershed from seeds (Meyer 1994).

Axes: H height, W width, K output channels. Labels HW are int32: 0 background, then objects from 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segops.errors import UserError
from segops.params.inference import InstanceParams

Labels = npt.NDArray[np.int32]
Bits = npt.NDArray[np.bool_]
Floats = npt.NDArray[Any]

_MOST_OBJECTS = 2**20  # a power of two, so that a number over it is exact as a float32 and lies in [0, 1]


def label_objects(
    mask_HW: npt.NDArray[Any], probability_KHW: Floats, params: InstanceParams, depth_HW: Floats | None = None
) -> Labels:
    """Label the objects of a mask of class indices, HW, numbered through the classes: an object is of a single class.

    Args:
        probability_KHW: what the mask was made from; K = 1, foreground, for two classes.
        depth_HW: how deep in its object each pixel is, for seeds predicted; of own objects their channel.

    Returns:
        Every foreground pixel belongs to an object; all 0 with method none.
    """
    labels_HW = np.zeros(mask_HW.shape, np.int32)
    if params.method == "none":
        return labels_HW
    if params.method == "own":
        assert depth_HW is not None, "an external program gives the channel"
        return np.asarray(np.rint(depth_HW * _MOST_OBJECTS), np.int32)
    for index in np.unique(mask_HW[mask_HW > 0]):
        own_HW = mask_HW == index
        objects_HW = components(own_HW)
        if params.method == "watershed":
            of_class_HW = probability_KHW[0 if len(probability_KHW) == 1 else index]
            objects_HW = _cut(own_HW, objects_HW, of_class_HW, params, depth_HW)
        labels_HW[own_HW] = objects_HW[own_HW] + labels_HW.max()
    return labels_HW


def object_channel(numbers_HW: npt.NDArray[np.integer[Any]]) -> Floats:
    """Return numbered objects HW, 0 background, as a channel of a program's map, in [0, 1].

    Raises: UserError for more objects than the channel can number.
    """
    object_HW, channel_HW = numbers_HW != 0, np.zeros(numbers_HW.shape, np.float32)
    numbers, places = np.unique(numbers_HW[object_HW], return_inverse=True)
    if len(numbers) >= _MOST_OBJECTS:
        raise UserError(f"a mask of {len(numbers)} objects; inference.instances.method own takes {_MOST_OBJECTS - 1}")
    channel_HW[object_HW] = (places + 1) / _MOST_OBJECTS
    return channel_HW


def components(object_HW: npt.NDArray[Any]) -> Labels:
    """Label 4-connected objects, HW, in reading order."""
    from scipy.ndimage import label

    return np.asarray(label(object_HW)[0], np.int32)


def _cut(
    object_HW: Bits, components_HW: Labels, probability_HW: Floats, params: InstanceParams, depth_HW: Floats | None
) -> Labels:
    """Flood components from their seeds; each seed's basin is an object, as is a component without a seed."""
    from skimage.segmentation import relabel_sequential, watershed

    if params.seeds == "probability":
        height_HW, seeds_HW = probability_HW, components(object_HW & (probability_HW > params.seed_probability))
    elif params.seeds == "predicted":
        assert depth_HW is not None, "params refuse predicted seeds without an output that predicts them"
        height_HW = _smoothed(depth_HW, params.smooth_px)
        seeds_HW = components(object_HW & (height_HW > params.seed_depth))
    else:
        height_HW = _depth(object_HW, params.smooth_px)
        seeds_HW = _peaks(height_HW, components_HW, params.seed_distance_px)
    unseeded = np.setdiff1d(components_HW, components_HW[seeds_HW > 0])
    whole_HW = object_HW & np.isin(components_HW, unseeded)
    seeds_HW[whole_HW] = components_HW[whole_HW] + seeds_HW.max()
    flooded_HW = watershed(-height_HW, seeds_HW, mask=object_HW)
    return np.asarray(relabel_sequential(flooded_HW)[0], np.int32)


def _depth(object_HW: Bits, smooth_px: float) -> Floats:
    """Return the distance of each pixel to the border of its object, smoothed; the image's edge is a border."""
    from scipy.ndimage import distance_transform_edt

    return _smoothed(distance_transform_edt(np.pad(object_HW, 1))[1:-1, 1:-1], smooth_px)


def _smoothed(height_HW: Floats, smooth_px: float) -> Floats:
    """Smooth by a Gaussian of that sigma; 0 leaves it as it is."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(height_HW, smooth_px) if smooth_px else height_HW)


def _peaks(height_HW: Floats, components_HW: Labels, distance_px: int) -> Labels:
    """Mark local maxima, numbered from 1, more than `distance_px` apart within a component."""
    from skimage.feature import peak_local_max

    seeds_HW = np.zeros(components_HW.shape, np.int32)
    peaks = peak_local_max(
        height_HW, min_distance=distance_px, threshold_abs=-1.0, labels=components_HW, exclude_border=False
    )
    seeds_HW[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return seeds_HW
