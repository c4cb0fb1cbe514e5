"""Reads how far the pixels of a TIFF or a PNG are apart, where the file says it of what was imaged, not of a print.

OME's and ImageJ's metadata are taken with a unit of length. ImageJ's `inch` and `cm` are not: it makes them of a
printer's resolution. The resolution that plain files carry is nearly always one of a screen, a printer or a scanner
(72 dpi is 353 um, 2400 dpi 10.6 um), so it counts only where it is finer than any of them.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from segops.data.decoders import orientation

_UM = {"nm": 1e-3, "um": 1.0, "micron": 1.0, "microns": 1.0, "\\u00b5m": 1.0, "mm": 1e3}
_MICRO_SIGNS = str.maketrans("\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}", "uu")
_UNIT_UM = {2: 25_400.0, 3: 10_000.0}  # of the tag ResolutionUnit: inch, centimetre
_METRE_UM = 1e6
_FINER_THAN_PRINTS_UM = 10.0
_TRANSPOSED = range(5, 9)  # values of the tag Orientation

Axes = dict[str, float]
"""Distance in micrometres by axis, `x`, `y` and `z`, of those that the file says."""


class Resolution(NamedTuple):
    """Holds what a file says of its pixels as they are stored.

    Attributes:
        size_HW: pixels of the full size that the distances are of; empty: the file has one size.
        transposed: whether the file asks viewers to swap rows and columns.
    """

    um: Axes
    size_HW: tuple[int, ...] = ()
    transposed: bool = False


def tiff_resolution(content: bytes) -> Resolution:
    """Return what a TIFF says: OME's metadata before ImageJ's, these before its tags."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as tiff:
            page: Any = tiff.pages[0]
            said = (_ome(tiff.ome_metadata or ""), _imagej(tiff.imagej_metadata or {}, page), _tags(page))
            um = next((axes for axes in said if {"x", "y"} <= axes.keys()), {})
            turn = page.tags.valueof(orientation.TAG, 1)
            return Resolution(um, (page.imagelength, page.imagewidth), turn in _TRANSPOSED)
    except Exception:  # a damaged header is told by who decodes the file
        return Resolution({})


def png_resolution(chunks: Iterator[tuple[bytes, bytes]]) -> Resolution:
    """Return what a PNG's chunk pHYs says of square pixels; others aren't taken, since its Exif may turn them."""
    for kind, body in chunks:
        if kind == b"pHYs" and len(body) == struct.calcsize(">IIB"):
            x, y, in_metres = struct.unpack(">IIB", body)
            if in_metres == 1 and x == y:
                return Resolution(_not_printed(_METRE_UM, {"x": (x, 1), "y": (y, 1)}))
    return Resolution({})


def in_um(unit: str) -> float | None:
    """Return how many micrometres a unit is; None for what is no unit of lengths in an image."""
    return _UM.get(unit.strip().lower().translate(_MICRO_SIGNS))


def _ome(xml: str) -> Axes:
    """Return PhysicalSizeX, Y and Z of OME's XML; without a unit they are micrometres."""
    spacing = {}
    for axis in "xyz":
        size = re.search(rf'PhysicalSize{axis.upper()}="([0-9.eE+-]+)"', xml)
        unit = re.search(rf'PhysicalSize{axis.upper()}Unit="([^"]+)"', xml)
        factor = in_um(unit[1]) if unit else 1.0
        if size and factor and float(size[1]) > 0:
            spacing[axis] = float(size[1]) * factor
    return spacing


def _imagej(about: dict[str, Any], page: Any) -> Axes:
    """Return the distances that ImageJ writes: pixels per unit in the tags, and the spacing of slices."""
    factor = in_um(str(about.get("unit", "")))
    if factor is None:
        return {}
    spacing = {axis: factor / per_unit for axis, (count, of) in _per_unit(page).items() if (per_unit := count / of)}
    if about.get("spacing"):
        spacing["z"] = abs(float(about["spacing"])) * factor
    return spacing


def _tags(page: Any) -> Axes:
    """Return the distances of a plain TIFF's tags; without a unit they say nothing."""
    unit_um = _UNIT_UM.get(int(page.tags.valueof("ResolutionUnit", 1)))
    return _not_printed(unit_um, _per_unit(page)) if unit_um else {}


def _per_unit(page: Any) -> dict[str, tuple[int, int]]:
    """Return the pixels per unit by axis, as fractions."""
    found = {axis: page.tags.valueof(tag) for axis, tag in (("x", "XResolution"), ("y", "YResolution"))}
    return {axis: value for axis, value in found.items() if value and value[0] and value[1]}


def _not_printed(unit_um: float, per_unit: dict[str, tuple[int, int]]) -> Axes:
    """Return the distances of both axes where they are finer than those of prints, screens and scanners."""
    um = {axis: unit_um * of / count for axis, (count, of) in per_unit.items() if count}
    return um if len(um) == 2 and max(um.values()) <= _FINER_THAN_PRINTS_UM else {}
