"""Decodes a large image file band by band, from top to bottom, where its format lets parts be decoded by themselves.

These are PNG without interlacing, TIFF of strips or tiles, NPY, and OME-Zarr. What comes out, put together, is what
`decode` gives; a file that isn't as usual (a palette, an orientation to turn by, channels as planes) has no bands here.

Axes: H height, W width, C samples per pixel; h rows of a band.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from segops.data.decoders import orientation
from segops.data.decoders.arrays import npy_header
from segops.data.decoders.decoded import UPRIGHT, Bands, Decoded
from segops.data.decoders.kinds import kind_of
from segops.data.decoders.ome_zarr import SUFFIX, opened_zarr, pointer
from segops.data.decoders.planes import planes_of
from segops.data.decoders.png_bands import png_bands
from segops.data.decoders.tiff import checked_series, meaning_of
from segops.params.file_rules import FileRules

if TYPE_CHECKING:
    from tifffile import TiffPage

_BAND_BYTES = 2**23


def bands_of(path: Path, rules: FileRules) -> Bands | None:
    """Return an image's bands; None where the file has none, or isn't as its name says, or is damaged."""
    try:
        if path.is_dir() and path.suffix.lower() == SUFFIX:
            return _zarr(path, rules)
        with path.open("rb") as file:
            kind = kind_of(file.read(512), path.name)
            file.seek(0)
            if kind == "PNG":
                return png_bands(path, file)
            if kind == "NPY":
                return _npy(path, file)
        return _tiff(path, rules) if kind == "TIFF" else None
    except Exception:  # decoders raise almost anything on damaged bytes; `decode` words it
        return None


def _zarr(path: Path, rules: FileRules) -> Bands:
    """Read rows of chunks of an OME-Zarr."""
    stored, axes = opened_zarr(pointer(path), str(path), rules.level, single=True)
    height, width = (stored.shape[axes.index(axis)] for axis in "YX")
    step = stored.chunks[axes.index("Y")]

    def bands() -> Iterator[Decoded]:
        for first in range(0, height, step):
            rows = tuple(slice(first, first + step) if axis == "Y" else slice(None) for axis in axes)
            (plane,) = planes_of(stored[rows], axes)
            yield Decoded(plane)

    return Bands(height, width, bands)


def _npy(path: Path, file: BinaryIO) -> Bands | None:
    """Read rows of an NPY file that holds them one after another."""
    shape, fortran_order, dtype = npy_header(file, path.stat().st_size, str(path))
    if fortran_order:
        return None
    offset = file.tell()
    return Bands(shape[0], shape[1], lambda: _stored_rows(path, offset, shape, dtype))


def _stored_rows(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Decoded]:
    """Read rows of pixels that lie in a file as they are in memory."""
    row = math.prod(shape[1:])
    step = max(1, _BAND_BYTES // (row * dtype.itemsize))
    with path.open("rb") as file:
        file.seek(offset)
        for first in range(0, shape[0], step):
            rows = min(step, shape[0] - first)
            yield Decoded(np.fromfile(file, dtype, rows * row).reshape(rows, *shape[1:]))


def _tiff(path: Path, rules: FileRules) -> Bands | None:
    """Decode rows of strips or tiles of a TIFF of a single plane."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = checked_series(tiff, str(path), path.stat().st_size, rules.level, single=True)
        page: Any = series.keyframe
        turn = page.tags.valueof(orientation.TAG, UPRIGHT)
        if series.axes not in ("YX", "YXS") or page.photometric.name == "PALETTE" or turn != UPRIGHT:
            return None
        shape = tuple(series.shape)
        level, stored = rules.level, page.is_memmappable
        offset, dtype = page.dataoffsets[0], np.dtype(tiff.byteorder + page.dtype.char)

    def bands() -> Iterator[Decoded]:
        with tifffile.TiffFile(path) as again:
            of_level: Any = again.series[0].levels[level].keyframe
            if stored:
                rows: Iterator[np.ndarray] = (band.array_HWC for band in _stored_rows(path, offset, shape, dtype))
            else:
                rows = _segments(of_level, shape)
            for band in rows:
                yield meaning_of(band, of_level, "image")

    return Bands(shape[0], shape[1], bands)


def _segments(page: TiffPage, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Put the strips or tiles that lie beside each other together."""
    samples, step = math.prod(shape[2:]), page.tilelength if page.is_tiled else page.rowsperstrip
    band, begin = None, 0
    for segment, (_, _, first, left, _), size in page.segments(maxworkers=1, sort=False):
        if band is not None and first != begin:
            yield band
            band = None
        if band is None:
            begin = first
            band = np.full((min(step, shape[0] - first), shape[1], samples), page.nodata, page.dtype)
        if segment is not None:
            part = segment.reshape(-1, *segment.shape[-2:])[: len(band), : shape[1] - left]
            band[: len(part), left : left + size[2]] = part
    if band is not None:
        yield band
