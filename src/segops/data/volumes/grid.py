"""Turns volumes into the one orientation that everything else expects (`contracts.volumes`), and compares their grids.

Axes: D depth, H height, W width, C channels. World coordinates are those of DICOM and ITK: mm towards the patient's
left, posterior and superior (LPS).
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.contracts.volumes import UNKNOWN_SPACING, Spacing, is_known
from segops.errors import UserError

Array = npt.NDArray[Any]

_SAME_VOXELS = 0.1  # how far a corner of a mask may lie off its image's, in the smallest spacing
_RIGHT_ANGLE = 1e-3  # the cosine between two axes, at most
_FAR = 1e9
_SPACING_MM = (1e-6, 1e3)  # a nanometre, and a metre: beyond them a header counts in another unit


class Grid(NamedTuple):
    """Where the voxels of a volume lie.

    Attributes:
        size_DHW: voxels along each axis.
        affine: 4x4, from an index (d, h, w, 1) to mm in LPS; None: the file doesn't say it.
    """

    size_DHW: tuple[int, int, int]
    affine: npt.NDArray[np.float64] | None

    @property
    def spacing_mm(self) -> Spacing:
        """The distance of voxels' centres along d, h and w; NaN where it isn't known."""
        if self.affine is None:
            return UNKNOWN_SPACING
        depth_mm, height_mm, width_mm = (round(float(np.linalg.norm(axis)), 6) for axis in self.affine[:3, :3].T)
        return depth_mm, height_mm, width_mm

    def corners(self) -> npt.NDArray[np.float64]:
        """Return the centres of the eight outermost voxels, mm, 8x3."""
        assert self.affine is not None
        ends = itertools.product(*((0, size - 1) for size in self.size_DHW))
        return np.asarray([self.affine @ (*end, 1) for end in ends])[:, :3]


class Volume(NamedTuple):
    """A volume in the orientation of `contracts.volumes`: DHWC, of any sample type, and its grid."""

    array_DHWC: Array
    grid: Grid


def oriented(array: Array, affine: npt.NDArray[np.float64], name: str) -> Volume:
    """Turn a volume's axes so that they run towards the superior, the posterior and the left, whichever is closest.

    No voxel's value is changed: an oblique volume stays on its own grid.

    Args:
        array: any order of three axes, then channels.
        affine: 4x4, from an index along those three axes to mm in LPS.
        name: the file's, for messages.

    Raises: UserError where the affine isn't a rotation and a spacing, as of a tilted gantry.
    """
    from nibabel import orientations

    _check(affine, name)
    turn = orientations.io_orientation(affine)
    array_WHDC = orientations.apply_orientation(array, turn)
    affine_WHD = affine @ orientations.inv_ornt_aff(turn, array.shape[:3])
    array_DHWC = np.ascontiguousarray(array_WHDC.transpose(2, 1, 0, 3))
    depth, height, width = array_DHWC.shape[:3]
    return Volume(array_DHWC, Grid((depth, height, width), affine_WHD[:, [2, 1, 0, 3]]))


def _check(affine: npt.NDArray[np.float64], name: str) -> None:
    """Raise UserError for an affine that no scanner gives."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.abs(affine).max() > _FAR:
        raise UserError(f"{name}: its affine isn't made of plain numbers; correct the header")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() < _SPACING_MM[0] or lengths.max() > _SPACING_MM[1]:
        wrong = lengths[(lengths < _SPACING_MM[0]) | (lengths > _SPACING_MM[1])][0]
        raise UserError(f"{name}: a spacing of {wrong:g} mm along an axis; correct the header, or its unit")
    cosines = (affine[:3, :3] / lengths).T @ (affine[:3, :3] / lengths) - np.eye(3)
    if np.abs(cosines).max() > _RIGHT_ANGLE:
        raise UserError(f"{name}: its axes aren't at right angles (a tilted gantry, or a shear); resample it first")


def check_same(grid: Grid, other: Grid, name: str, other_name: str, fix: str) -> None:
    """Raise UserError where the voxels of `name` don't lie where those of `other_name` do.

    A tenth of the smallest spacing is allowed: headers are rounded.

    Args:
        fix: what to do about it.
    """
    if grid.size_DHW != other.size_DHW:
        ours, theirs = ("x".join(map(str, size)) for size in (grid.size_DHW, other.size_DHW))
        raise UserError(f"{name}: {ours} voxels, but {other_name} has {theirs}; {fix}")
    if grid.affine is None or other.affine is None:
        return
    off_mm = float(np.linalg.norm(grid.corners() - other.corners(), axis=1).max())
    if off_mm > _SAME_VOXELS * min(other.spacing_mm):
        spacings = [words(each.spacing_mm) for each in (grid, other)]
        apart = (
            f"voxels of {spacings[0]}, but {other_name} has {spacings[1]}"
            if spacings[0] != spacings[1]
            else (f"lies up to {off_mm:.3g} mm off {other_name}")
        )
        raise UserError(f"{name}: {apart}: another grid, or another orientation; {fix}")


def words(spacing_mm: Spacing) -> str:
    """Word a spacing: `3 x 1 x 1 mm`."""
    if not is_known(spacing_mm):
        return "unknown spacing"
    return f"{' x '.join(f'{value:.4g}' for value in spacing_mm)} mm"


def grid_of(size_DHW: tuple[int, ...], spacing_mm: Spacing | None) -> Grid:
    """Return the grid of a file that tells spacing alone, or nothing: its planes run as `contracts.volumes` says."""
    depth, height, width = size_DHW
    if spacing_mm is None or not is_known(spacing_mm):
        return Grid((depth, height, width), None)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing_mm, 1.0
    return Grid((depth, height, width), affine)


def without_spacing(grid: Grid, spacing_mm: Spacing | None, name: str) -> Grid:
    """Return a grid with the spacing that params give where its file says none.

    Raises: UserError where it says another.
    """
    if spacing_mm is None:
        return grid
    check_spacing(grid.spacing_mm, spacing_mm, name)
    return grid_of(grid.size_DHW, spacing_mm) if grid.affine is None else grid


def check_spacing(said_mm: Spacing, spacing_mm: Spacing, name: str) -> None:
    """Raise UserError where a file says another spacing than params do, along any axis; NaN: it doesn't say."""
    if any(
        not math.isnan(said) and not math.isclose(said, wanted, rel_tol=1e-3)
        for said, wanted in zip(said_mm, spacing_mm, strict=True)
    ):
        header = " x ".join("?" if math.isnan(said) else f"{said:.4g}" for said in said_mm)
        raise UserError(
            f"{name}: its header says {header} mm, but ingest.spacing_mm is {words(spacing_mm)}; set "
            "ingest.spacing_mm to null, or correct the header"
        )
