"""Reads a TIFF of slices (OME-TIFF, ImageJ's, or plain pages) as a volume: its first plane is the lowest.

Axes: D depth, H height, W width, C channels.
"""

from __future__ import annotations

import io
import math

import numpy as np

from segops.contracts.volumes import Spacing
from segops.data.decoders.decode import decode_planes
from segops.data.decoders.decoded import Reading
from segops.data.decoders.resolution import tiff_resolution
from segops.data.volumes.grid import Volume, check_spacing, grid_of
from segops.errors import UserError
from segops.params.file_rules import FileRules

_IN_PLANE = "YXCS"
_TURNED = range(2, 9)  # values of TIFF's orientation tag


def decode_stack(content: bytes, name: str, reading: Reading, rules: FileRules) -> tuple[Volume, tuple[str, ...]]:
    """Decode a TIFF's slices, with its channels, and return what is to be noted of it.

    Raises: UserError for one plane, a time series, another spacing than params say, and what isn't taken of a picture
        either.
    """
    _check_axes(content, name)
    planes = decode_planes(content, name, reading)
    if any(plane.alpha for plane in planes):
        raise UserError(f"{name}: a TIFF of slices with an alpha channel; save it without")
    array_DHWC = np.stack([plane.array_HWC for plane in planes])
    notes = tuple(sorted({change for plane in planes for change in plane.changes}))
    said_mm = tiff_spacing_mm(content)
    if rules.spacing_mm is not None:
        check_spacing(
            said_mm, rules.spacing_mm, name
        )  # here, since a grid doesn't keep what is said of some axes alone
    return Volume(array_DHWC, grid_of(array_DHWC.shape[:3], said_mm)), notes


def _check_axes(content: bytes, name: str) -> None:
    """Raise UserError where the planes aren't the slices of one volume; a damaged file is told by its decoder."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as tiff:
            series = tiff.series[0]
            turned = series.keyframe.tags.valueof("Orientation", 1) in _TURNED
            planes = {axis: size for axis, size in zip(series.axes, series.shape, strict=True) if axis not in _IN_PLANE}
    except Exception:
        return
    if turned:
        raise UserError(f"{name}: its orientation tag asks viewers to turn its slices; save them upright")
    several = [axis for axis, size in planes.items() if size > 1]
    if len(several) > 1 or "T" in several:
        raise UserError(f"{name}: 4D (axes {series.axes}): save each time point as a file of its own")
    if not several:
        raise UserError(
            f"{name}: a TIFF of one plane, no volume; set ingest.dimensions: 2, or join the slices in a file"
        )


def tiff_spacing_mm(content: bytes) -> Spacing:
    """Return the distance of voxels; NaN where the file doesn't say it."""
    um = tiff_resolution(content).um
    depth_mm, height_mm, width_mm = (um.get(axis, math.nan) / 1000 for axis in "zyx")
    return depth_mm, height_mm, width_mm
