"""Draws annotated objects as masks.

Axes: H height, W width. Coordinates are x, y in pixels; the first pixel's corners are (0, 0) and (1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segops.errors import UserError

_MOST_PX = 2**20  # that a coordinate may be from the image's corner


class Annotation(NamedTuple):
    """An annotated object.

    Attributes:
        label: the name of its class.
        mask_HW: bool, of the image's size.
        crowd: whether it is a region of objects that aren't told apart.
    """

    label: str
    mask_HW: np.ndarray
    crowd: bool = False


def draw_polygon(outer: npt.ArrayLike, holes: Sequence[npt.ArrayLike], size: tuple[int, int], where: str) -> np.ndarray:
    """Draw a polygon without its holes, as COCO's own library does, HW bool.

    Args:
        outer: x and y in turn.
        holes: of the same form.
        size: height and width, pixels.
        where: names the object in messages.

    Raises: UserError for too few coordinates, or one too far away.
    """
    from pycocotools import mask as coco_mask

    rings = [_checked(ring, where) for ring in (outer, *holes)]
    drawn = [np.asarray(coco_mask.decode(coco_mask.frPyObjects([ring], *size)))[..., 0] > 0 for ring in rings]
    inside_HW: np.ndarray = drawn[0]
    for hole_HW in drawn[1:]:
        inside_HW &= ~hole_HW
    return inside_HW


def _checked(ring: npt.ArrayLike, where: str) -> list[float]:
    """Return a ring's coordinates as floats, at least three points."""
    values = np.asarray(ring, dtype=np.float64)
    if values.ndim != 1 or len(values) < 6 or len(values) % 2:
        raise UserError(f"{where}: a polygon needs at least three points of x and y; correct it or leave it out")
    if not np.isfinite(values).all() or np.abs(values).max() > _MOST_PX:
        raise UserError(f"{where}: a coordinate far outside the image; correct it")
    coordinates: list[float] = values.tolist()
    return coordinates


def draw_runs(starts: np.ndarray, lengths: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    """Draw run lengths, HW bool.

    Args:
        starts: of each run, counted from 0 down the columns, from the left column on.
        lengths: of each run, pixels.
        size: height and width, pixels.

    Raises: UserError for a run that isn't inside the image.
    """
    height, width = size
    if len(starts) and (starts.min() < 0 or lengths.min() < 1 or (starts + lengths).max() > height * width):
        raise UserError(f"{where}: a run outside the image's {height}x{width} pixels; correct it")
    edges = np.zeros(height * width + 1, np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + lengths, -1)
    inside_HW: np.ndarray = (np.cumsum(edges[:-1]) > 0).reshape(width, height).T
    return np.ascontiguousarray(inside_HW)
