"""Shows volumes as pictures: three planes through a point side by side, and a film of slices with outlines.

A picture's pixels are as wide as high, whatever the spacing. The axial plane is seen from the feet, the coronal one
from the front, the sagittal one from the patient's left with the front to the left; the head is up.

Axes: D depth, H height, W width of a volume; C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.contracts.masks import classes_of, is_foreground
from segops.contracts.volumes import Spacing
from segops.pictures.images import ORANGE, SKY, YELLOW, Picture, nearest, outline, picture, shown_range

Array = npt.NDArray[Any]
Show = Callable[[Array], Array]

_SIDE_PX = 256  # of a plane, at most
_GAP_PX = 2
_UNKNOWN_MM = (1.0, 1.0, 1.0)
MOST_SLICES = 48  # of a film


def planes_of(truth: Array, predicted: Array, spacing_mm: Spacing | None) -> Show:
    """Return what turns arrays of a volume, DHW or DHWC, into a picture of three planes; arrays of a picture stay.

    Each plane is the one with the most true foreground, of a volume without any with the most predicted.

    Args:
        truth, predicted: class indices of the volume, or of a picture.
        spacing_mm: of voxels; None: unknown, as if all sides were equal.
    """
    if truth.ndim == 2:
        return lambda array: array
    step_mm = spacing_mm or _UNKNOWN_MM
    point = _busiest(truth, predicted)
    px_per_mm = _scale(truth.shape, step_mm)
    sizes = [max(1, round(side * step * px_per_mm)) for side, step in zip(truth.shape, step_mm, strict=True)]
    cuts = (
        (0, (1, 2), False),
        (1, (0, 2), True),
        (2, (0, 1), True),
    )  # across, the plane's axes, whether it is turned up

    def show(array: Array) -> Array:
        planes = []
        for axis, (down, right), turned in cuts:
            plane = np.moveaxis(array, axis, 0)[point[axis]]
            planes.append(_resized(plane[::-1] if turned else plane, (sizes[down], sizes[right])))
        height = max(len(plane) for plane in planes)
        return np.concatenate([_framed(plane, height) for plane in planes], axis=1)

    return show


def film(image_DHWC: Array, truth_DHW: Array, predicted_DHW: Array, spacing_mm: Spacing | None) -> list[Picture]:
    """Draw axial slices from the feet up, of many evenly spaced ones, with the outlines of truth and prediction.

    Where both outlines meet they are YELLOW, prediction's alone is ORANGE, truth's alone SKY.
    """
    _, height_mm, width_mm = spacing_mm or _UNKNOWN_MM
    truth_DHW = classes_of(truth_DHW)
    count, height, width = truth_DHW.shape
    scale = _SIDE_PX / max(height * height_mm, width * width_mm)
    size_hw = max(1, round(height * height_mm * scale)), max(1, round(width * width_mm * scale))
    values = shown_range(image_DHWC, None)
    slices = []
    for number in np.unique(np.linspace(0, count - 1, min(count, MOST_SLICES)).round().astype(int)):
        shown = picture(_resized(image_DHWC[number], size_hw), values).copy()
        true, predicted = (outline(nearest(mask[number], size_hw)) for mask in (truth_DHW, predicted_DHW))
        for colour, where in ((SKY, true & ~predicted), (ORANGE, predicted & ~true), (YELLOW, true & predicted)):
            shown[where] = colour
        slices.append(shown)
    return slices


def _busiest(truth_DHW: Array, predicted_DHW: Array) -> list[int]:
    """Return the position along each axis of the plane with the most foreground; the middle where there is none."""
    foreground = is_foreground(truth_DHW)
    if not foreground.any():
        foreground = predicted_DHW > 0
    if not foreground.any():
        return [side // 2 for side in truth_DHW.shape]
    axes = range(truth_DHW.ndim)
    counts = [foreground.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    return [int(count.argmax()) for count in counts]


def _scale(size_DHW: tuple[int, ...], step_mm: Spacing) -> float:
    """Return pixels a millimetre: a pixel of the finest voxels' side, unless a plane became too large."""
    longest_mm = max(side * step for side, step in zip(size_DHW, step_mm, strict=True))
    return min(1 / min(step_mm), _SIDE_PX / longest_mm)


def _resized(plane: Array, size_hw: tuple[int, int]) -> Array:
    """Scale a plane, with channels or without, to a size by the nearest voxel."""
    if plane.ndim == 2:
        return nearest(plane, size_hw)
    return np.stack([nearest(plane[..., channel], size_hw) for channel in range(plane.shape[-1])], axis=-1)


def _framed(plane: Array, height: int) -> Array:
    """Return a plane in the middle of a height, with a gap to its right; around it all is 0."""
    above = (height - len(plane)) // 2
    border = [(above, height - len(plane) - above), (0, _GAP_PX)] + [(0, 0)] * (plane.ndim - 2)
    return np.pad(plane, border)
