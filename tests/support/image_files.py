"""Encodes arrays as image files."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import tifffile
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
