"""Reads OME-Zarr images: folders of chunks at several levels (NGFF 0.4 and 0.5, doi:10.1038/s41592-021-01326-w).

A source gives such a folder as one member, whose bytes are a pointer that only this process can write.
"""

from __future__ import annotations

import math
import secrets
from functools import cache
from pathlib import Path
from typing import Any

from segops.data.decoders.bounds import MAX_CHANNELS, check_size
from segops.data.decoders.decoded import Decoded
from segops.data.decoders.planes import planes_of
from segops.errors import UserError

SUFFIX = ".zarr"


@cache
def _mark() -> bytes:
    """Return what a pointer begins with: bytes that no file from elsewhere can hold."""
    return b"\0OME-Zarr\0" + secrets.token_bytes(16)


def pointer(folder: Path) -> bytes:
    """Return the bytes that stand for a folder."""
    return _mark() + str(folder.resolve()).encode()


def is_pointer(content: bytes) -> bool:
    """Return whether bytes are a pointer of this process."""
    return content.startswith(_mark())


def decode_ome_zarr(content: bytes, name: str, level: int | None, *, single: bool) -> list[Decoded]:
    """Read a level of an image, and nothing of the others; channels stay together, slices and frames are planes.

    Args:
        level: from full size on; None: the full size.
        single: refuse an image of several planes.

    Raises: UserError for another kind of Zarr, a level that isn't there, planes, or samples that aren't numbers.
    """
    stored, axes = opened_zarr(content, name, level, single=single)
    return [Decoded(plane) for plane in planes_of(stored[:], axes)]


def opened_zarr(content: bytes, name: str, level: int | None, *, single: bool) -> tuple[Any, str]:
    """Open a level of an image; return its Zarr array, unread, and a letter for each axis. See `decode_ome_zarr`."""
    import zarr

    group = zarr.open_group(content.removeprefix(_mark()).decode(), mode="r")
    scales = _multiscales(dict(group.attrs), name)
    datasets = scales["datasets"]
    if level is not None and level >= len(datasets):
        raise UserError(f"{name}: ingest.level is {level}, but the image has {len(datasets)} levels, counted from 0")
    stored: Any = group[datasets[level or 0]["path"]]
    axes = _axes(scales, stored.ndim, name)
    height, width = (stored.shape[axes.index(axis)] for axis in "YX")
    if stored.dtype.kind not in "buif":
        raise UserError(f"{name}: samples of {stored.dtype}; save them as integers or floats")
    channels = stored.shape[axes.index("C")] if "C" in axes else 1
    planes = math.prod(stored.shape) // (height * width * channels)
    if planes > 1 and single:
        raise UserError(f"{name}: OME-Zarr of {planes} planes (axes {axes}); set ingest.planes: split")
    if channels > MAX_CHANNELS:
        raise UserError(f"{name}: {channels} channels; at most {MAX_CHANNELS} are read")
    check_size(height, width, name, bytes_per_pixel=planes * channels * stored.dtype.itemsize)
    return stored, axes


def _multiscales(attributes: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the first image's levels and axes. Raises UserError for a Zarr that isn't OME's."""
    found = attributes.get("ome", attributes).get("multiscales")
    if not found or not found[0].get("datasets"):
        raise UserError(f"{name}: a Zarr without OME's 'multiscales', so its axes aren't known; save it as OME-Zarr")
    first: dict[str, Any] = found[0]
    return first


def _axes(scales: dict[str, Any], dimensions: int, name: str) -> str:
    """Return a letter for each axis: T, C, Z, Y, X."""
    named = scales.get("axes") or list("tczyx")
    axes = "".join(str(axis["name"] if isinstance(axis, dict) else axis)[:1].upper() for axis in named)
    if len(axes) != dimensions or len(set(axes)) != dimensions or not {"Y", "X"} <= set(axes) <= set("TCZYX"):
        raise UserError(f"{name}: axes {axes} of an array of {dimensions} dimensions; they must be of t, c, z, y, x")
    return axes
