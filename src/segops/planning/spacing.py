"""Reads the pixel size that an image file carries: in OME-TIFF, in ImageJ's TIFF, or in a BIDS sidecar."""

from __future__ import annotations

import io
import json
import re
from pathlib import PurePosixPath
from typing import Any

from segops.data.layouts.pairing import Members

_TIFF = (".tif", ".tiff")
_MICRON = {"micron", "microns", "um", "µm", "μm", "\\u00b5m"}
_UM = {"um": 1.0, "nm": 1e-3, "mm": 1e3}


def pixel_size(source: Members, name: str) -> str | None:
    """Return an image's pixel size in micrometres, such as `0.5 um`; None where the file doesn't say it."""
    size_um = _sidecar(source, name)
    if size_um is None and name.lower().endswith(_TIFF):
        size_um = _tiff(source.read(name))
    return f"{size_um:.4g} um" if size_um else None


def _sidecar(source: Members, name: str) -> float | None:
    """Return the pixel size of a BIDS sidecar beside the image."""
    sidecar = str(PurePosixPath(name).with_suffix(".json"))
    if sidecar not in source.names:
        return None
    try:
        about = json.loads(source.read(sidecar))
        size = about["PixelSize"]
        first = size[0] if isinstance(size, list) else size
        return float(first) * _UM[about["PixelSizeUnits"]]
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _tiff(content: bytes) -> float | None:
    """Return the pixel size of an OME-TIFF or of ImageJ's TIFF; a plain TIFF's resolution is the printer's."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as tiff:
            if tiff.ome_metadata:
                return _ome(tiff.ome_metadata)
            about: dict[str, Any] = tiff.imagej_metadata or {}
            tag: Any = tiff.pages[0].tags.get("XResolution")
            if str(about.get("unit", "")).lower() not in _MICRON or tag is None or not tag.value[0]:
                return None
            return float(tag.value[1] / tag.value[0])
    except Exception:  # a damaged header is told by who decodes the file
        return None


def _ome(xml: str) -> float | None:
    """Return PhysicalSizeX of OME's XML in micrometres."""
    size = re.search(r'PhysicalSizeX="([0-9.eE+-]+)"', xml)
    unit = re.search(r'PhysicalSizeXUnit="([^"]+)"', xml)
    factor = _UM.get(unit[1].replace("µ", "u").replace("μ", "u") if unit else "um")
    return float(size[1]) * factor if size and factor else None
