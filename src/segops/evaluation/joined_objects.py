"""Finds labelled objects that are several: predictions see ground through them, and sure objects on both sides of it.

Where two objects were drawn as one, few pixels are wrong, in a strip that may be thinner than what borders differ by,
so that no region of pixels tells it (`label_errors`). What tells it is the number of objects. Probabilities must be of
a model that hasn't seen the image. Axes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.contracts.masks import IGNORED
from segops.evaluation.label_errors import CONFIDENT, Mask, Region, outline_of
from segops.inference.instances import components

Array = npt.NDArray[Any]
Bits = npt.NDArray[np.bool_]


def joined_objects(
    label_HW: Mask,
    objects_HW: npt.NDArray[Any] | None,
    likeliest_HW: npt.NDArray[Any],
    confident_HW: npt.NDArray[np.int16],
    tolerance_px: int,
) -> list[Region]:
    """List the parts of labelled objects that predictions see as objects of their own, the largest first.

    An object is cut where another class is likelier than its own. It is several if at least two parts hold a disc of
    `tolerance_px` of pixels that are confidently of its class, and at least a tenth of the pixels between them is
    confidently of another class. Its largest part is the object that the label means; each other one is a region whose
    suggested class is the given one, and all of its pixels are wrong.

    Args:
        objects_HW: labels of the source's objects; None: the 4-connected components of each class.
    """
    from scipy.ndimage import find_objects

    regions: list[Region] = []
    for index in np.setdiff1d(label_HW, [0, IGNORED]).tolist():
        own_HW = label_HW == index
        numbers_HW = components(own_HW) if objects_HW is None else np.where(own_HW, objects_HW, 0)
        for number, box in enumerate(find_objects(numbers_HW), start=1):
            if box is not None:
                object_HW = numbers_HW[box] == number
                top, left = (side.start for side in box)
                for part_HW in _others(object_HW, likeliest_HW[box], confident_HW[box], index, tolerance_px):
                    area, outline = int(part_HW.sum()), outline_of(part_HW)
                    moved = [(row + top, column + left) for row, column in outline]
                    regions.append(Region(index, index, area, float(area), moved))
    return sorted(regions, key=lambda region: (-region.weight_px, region.outline))


def _others(object_HW: Bits, likeliest_HW: Array, confident_HW: Array, index: int, tolerance_px: int) -> Iterator[Bits]:
    """Yield the parts of a labelled object but the largest; nothing where it is a single object."""
    from scipy.ndimage import binary_opening
    from skimage.morphology import convex_hull_image, disk

    seen_HW = object_HW & (likeliest_HW == index)
    parts_HW = components(seen_HW)
    cores_HW = binary_opening(np.pad(seen_HW & (confident_HW == index), tolerance_px), disk(tolerance_px))
    height, width = seen_HW.shape
    cores_HW = cores_HW[tolerance_px : tolerance_px + height, tolerance_px : tolerance_px + width]
    sure = np.unique(parts_HW[cores_HW])
    if len(sure) < 2:
        return
    kept_HW = np.isin(parts_HW, sure)
    between_HW = convex_hull_image(kept_HW) & object_HW & ~seen_HW
    other_HW = between_HW & (confident_HW >= 0) & (confident_HW != index)
    if other_HW.sum() < CONFIDENT * between_HW.sum():
        return
    by_size = sorted(sure.tolist(), key=lambda part: (-int((parts_HW == part).sum()), part))
    yield from (parts_HW == part for part in by_size[1:])
