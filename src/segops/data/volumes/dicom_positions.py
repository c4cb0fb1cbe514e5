"""Sorts the slices of a series by where they lie, and refuses a series that isn't one evenly spaced volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segops.errors import UserError

Array = npt.NDArray[np.float64]

_SAME_AXES = 1e-3  # difference of direction cosines
_SAME_SPACING = 1e-3  # relative
_SAME_PLACE_MM = 1e-3
_EVEN = 0.05  # how far a step may differ from the usual one, as a share of it: headers are rounded


class SlicePosition(NamedTuple):
    """Where a slice lies.

    Attributes:
        name: of its file, and of its frame, for messages.
        corner_mm: LPS of the centre of its first pixel.
        axes: direction of its rows (along which columns count), then of its columns.
        spacing_mm: between rows, then between columns.
        size_HW: rows and columns.
    """

    name: str
    corner_mm: Array
    axes: Array
    spacing_mm: Array
    size_HW: tuple[int, int]

    @property
    def normal(self) -> Array:
        """The direction across the slice."""
        return np.asarray(np.cross(self.axes[:3], self.axes[3:]))


def checked_order(slices: Sequence[SlicePosition]) -> list[int]:
    """Return the slices' indices in the order of their positions.

    Raises: UserError naming the slice where size, orientation or spacing changes, one is missing or there twice, or
        there are several volumes.
    """
    first = slices[0]
    for other in slices[1:]:
        _check_like(other, first)
    if len(slices) < 2:
        raise UserError(f"{first.name}: a series of one slice, no volume; leave it out by ingest.exclude")
    heights_mm = np.array([part.corner_mm @ first.normal for part in slices])
    order = np.argsort(heights_mm, kind="stable").tolist()
    steps_mm = np.diff(heights_mm[order])
    _check_once([slices[index] for index in order], steps_mm)
    usual_mm = float(np.median(steps_mm))
    for position in np.flatnonzero(np.abs(steps_mm - usual_mm) > _EVEN * usual_mm):
        before, after = slices[order[position]].name, slices[order[position + 1]].name
        times = steps_mm[position] / usual_mm
        if times > 1.5 and abs(times - round(times)) < _EVEN * times:
            missing = "a slice is" if round(times) == 2 else f"{round(times) - 1} slices are"
            raise UserError(f"{after}: {missing} missing between it and {before}; export the series again")
        raise UserError(
            f"{after}: mixed spacing: {steps_mm[position]:.4g} mm above {before}, other slices lie {usual_mm:.4g} mm "
            "apart; resample the series, or leave it out by ingest.exclude"
        )
    return [int(index) for index in order]


def affine_of(slices: Sequence[SlicePosition]) -> Array:
    """Return the affine from (slice, row, column) to mm in LPS of slices in order of their positions."""
    first, last = slices[0], slices[-1]
    affine = np.eye(4)
    affine[:3, 0] = (last.corner_mm - first.corner_mm) / (len(slices) - 1)
    affine[:3, 1] = first.axes[3:] * first.spacing_mm[0]
    affine[:3, 2] = first.axes[:3] * first.spacing_mm[1]
    affine[:3, 3] = first.corner_mm
    return affine


def _check_like(other: SlicePosition, first: SlicePosition) -> None:
    """Raise UserError where a slice isn't of the size, spacing and orientation of another."""
    if other.size_HW != first.size_HW:
        sizes = [f"{size[0]}x{size[1]}" for size in (other.size_HW, first.size_HW)]
        raise UserError(f"{other.name}: {sizes[0]} pixels, but {first.name} has {sizes[1]}; a volume needs one size")
    if not np.allclose(other.spacing_mm, first.spacing_mm, rtol=_SAME_SPACING):
        spacings = [" x ".join(f"{value:.4g}" for value in part.spacing_mm) for part in (other, first)]
        raise UserError(
            f"{other.name}: mixed spacing: pixels of {spacings[0]} mm, but {first.name} has {spacings[1]} mm; a volume "
            "needs one spacing"
        )
    if not np.allclose(other.axes, first.axes, atol=_SAME_AXES):
        raise UserError(
            f"{other.name}: lies in another plane than {first.name}, as in a localizer; a volume needs parallel slices"
        )


def _check_once(ordered: Sequence[SlicePosition], steps_mm: Array) -> None:
    """Raise UserError where two slices lie at one place."""
    twice = np.flatnonzero(steps_mm < _SAME_PLACE_MM)
    if not len(twice):
        return
    places = len(steps_mm) + 1 - len(twice)
    if len(ordered) % places == 0 and len(ordered) > places > 1:
        raise UserError(
            f"{ordered[0].name}: 4D: {len(ordered) // places} volumes of {places} slices in one series, such as times "
            "or echoes; give each a series or a folder of its own"
        )
    names = ordered[twice[0]].name, ordered[twice[0] + 1].name
    raise UserError(f"{names[1]}: a double slice: it lies where {names[0]} does; remove one of them")
