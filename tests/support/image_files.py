"""Encodes arrays as image files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import zarr
from PIL import Image


def pillow(image: np.ndarray | Image.Image, kind: str, mode: str | None = None, **options: Any) -> bytes:
    """A file that Pillow writes, converted to a mode first."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    stream = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(stream, kind, **options)
    return stream.getvalue()


def png(array: np.ndarray) -> bytes:
    """A PNG of any channels and bits."""
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(array)))


def tiff(array: np.ndarray, **options: Any) -> bytes:
    """A TIFF that tifffile writes."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    """An NPY file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def write_zarr(path: Path, array: np.ndarray, axes: str, zarr_format: int = 2, levels: int = 3, **changed: Any) -> Path:
    """An OME-Zarr whose levels are every first, second, fourth pixel."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for level in range(levels):
        scaled = array[..., :: 1 << level, :: 1 << level]
        stored = group.create_array(
            str(level), shape=scaled.shape, chunks=(1,) * (array.ndim - 2) + (16, 16), dtype=array.dtype
        )
        stored[:] = scaled
    scales = [
        {"axes": [{"name": axis} for axis in axes], "datasets": [{"path": str(level)} for level in range(levels)]}
    ]
    scales[0] |= changed
    group.attrs.update(
        {"multiscales": scales} if zarr_format == 2 else {"ome": {"version": "0.5", "multiscales": scales}}
    )
    return path
