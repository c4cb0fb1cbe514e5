"""Reads the pixel size that an image file carries: in OME-TIFF, in ImageJ's TIFF, or in a BIDS sidecar."""

from __future__ import annotations

from pathlib import PurePosixPath

from segops.data.decoders.tiff_spacing import tiff_spacing_um
from segops.data.layouts.pairing import Members
from segops.files import parse_json

_TIFF = (".tif", ".tiff")
_UM = {"um": 1.0, "nm": 1e-3, "mm": 1e3}


def pixel_size(source: Members, name: str) -> str | None:
    """Return an image's pixel size in micrometres, such as `0.5 um`; None where the file doesn't say it."""
    size_um = _sidecar(source, name)
    if size_um is None and name.lower().endswith(_TIFF):
        size_um = tiff_spacing_um(source.read(name)).get("x")
    return f"{size_um:.4g} um" if size_um else None


def _sidecar(source: Members, name: str) -> float | None:
    """Return the pixel size of a BIDS sidecar beside the image."""
    sidecar = str(PurePosixPath(name).with_suffix(".json"))
    if sidecar not in source.names:
        return None
    try:
        about = parse_json(source.read(sidecar))
        size = about["PixelSize"]
        first = size[0] if isinstance(size, list) else size
        return float(first) * _UM[about["PixelSizeUnits"]]
    except (ValueError, KeyError, TypeError, IndexError):
        return None
