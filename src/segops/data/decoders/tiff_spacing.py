"""Reads how far the pixels of a TIFF are apart: from OME's metadata, or from ImageJ's.

A plain TIFF's resolution is the printer's.
"""

from __future__ import annotations

import io
import re
from typing import Any

_MICRON = {"micron", "microns", "um", "µm", "μm", "\\u00b5m"}
_UM = {"um": 1.0, "nm": 1e-3, "mm": 1e3}

Axes = dict[str, float]
"""Distance in micrometres by axis, `x`, `y` and `z`, of those that the file says."""


def tiff_spacing_um(content: bytes) -> Axes:
    """Return the distance of pixels in micrometres; empty where the file doesn't say it."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as tiff:
            return _ome(tiff.ome_metadata) if tiff.ome_metadata else _imagej(tiff)
    except Exception:  # a damaged header is told by who decodes the file
        return {}


def _imagej(tiff: Any) -> Axes:
    """Return the distances that ImageJ writes: pixels per unit in the tags, and the spacing of slices."""
    about: dict[str, Any] = tiff.imagej_metadata or {}
    if str(about.get("unit", "")).lower() not in _MICRON:
        return {}
    tags = tiff.pages[0].tags
    found = {axis: tags.get(tag) for axis, tag in (("x", "XResolution"), ("y", "YResolution"))}
    spacing = {axis: tag.value[1] / tag.value[0] for axis, tag in found.items() if tag is not None and tag.value[0]}
    if about.get("spacing"):
        spacing["z"] = abs(float(about["spacing"]))
    return spacing


def _ome(xml: str) -> Axes:
    """Return PhysicalSizeX, Y and Z of OME's XML."""
    spacing = {}
    for axis in "xyz":
        size = re.search(rf'PhysicalSize{axis.upper()}="([0-9.eE+-]+)"', xml)
        unit = re.search(rf'PhysicalSize{axis.upper()}Unit="([^"]+)"', xml)
        factor = _UM.get(unit[1].replace("µ", "u").replace("μ", "u") if unit else "um")
        if size and factor and float(size[1]):
            spacing[axis] = float(size[1]) * factor
    return spacing
