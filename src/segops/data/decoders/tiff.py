"""Decodes a TIFF that holds one image, of one plane or of several channels, maybe with smaller copies of it."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from segops.data.decoders import orientation
from segops.data.decoders.bounds import DEFLATE_RATIO, MAX_CHANNELS, check_filled, check_size
from segops.data.decoders.decoded import UPRIGHT, Decoded, Reading
from segops.data.decoders.palettes import by_palette
from segops.data.decoders.planes import planes_of
from segops.errors import UserError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

_ALPHA = (1, 2)  # values of ExtraSamples: associated and unassociated
_KINDS = (
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
_UNPACKED_BITS = (1, *range(8, 17), 32, 64)
_PLANE = ("YX", "YXS")  # axes of a single plane as it is
_CHANNELS_FIRST = ("CYX", "SYX")
_SIDE_PICTURES = ("thumbnail", "label", "macro", "overview")  # names of series in whole-slide files
# Bytes that a packed byte gives at most; LZW's longest string has 4095 in a code of 12 bits.
_RATIO = {"NONE": 1.0, "PACKBITS": 64.0, "LZW": 2731.0, "ADOBE_DEFLATE": DEFLATE_RATIO, "DEFLATE": DEFLATE_RATIO}


def decode_tiff(content: bytes, name: str, reading: Reading, level: int, *, single: bool) -> list[Decoded]:
    """Decode a TIFF's slices and frames, in the order of the file; channels stay together.

    Args:
        level: of the image's copies, from full size on.
        single: refuse a file of several planes.

    Raises: UserError for more images than one, planes that aren't channels, and samples or colours that aren't known.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        series = checked_series(tiff, name, len(content), level if reading == "image" else None, single=single)
        page: Any = series.keyframe
        array = series.asarray()
        axes, turn = series.axes, page.tags.valueof(orientation.TAG, UPRIGHT)
    planes = [array] if axes in _PLANE else list(planes_of(array, axes))
    return [meaning_of(plane, page, reading)._replace(orientation=turn) for plane in planes]


def checked_series(tiff: TiffFile, name: str, size_bytes: int, level: int | None, *, single: bool) -> TiffPageSeries:
    """Return a level of the only image in a file of that size, its pixels unread. Raises UserError as `decode_tiff`."""
    series = _image(tiff, name, level)
    _check(series, series.keyframe, name, size_bytes, single=single)
    return series


def _image(tiff: TiffFile, name: str, level: int | None) -> TiffPageSeries:
    """Return a level of the only image in a file. Raises UserError where there are more images, or no such level."""
    image, *others = tiff.series
    if any(not _is_side_picture(other) for other in others):
        pages = sum(len(series.pages) for series in tiff.series)
        raise UserError(f"{name}: TIFF of {pages} pages that differ; save one image per file")
    if level is None:  # a mask is of the size that it is
        return image
    if level >= len(image.levels):
        raise UserError(
            f"{name}: ingest.level is {level}, but the file has {len(image.levels)} "
            f"level{'s' if len(image.levels) > 1 else ''}, counted from 0; lower it"
        )
    return image.levels[level]


def _is_side_picture(series: TiffPageSeries) -> bool:
    """Return whether a series is a smaller copy, or what a slide scanner puts beside its image."""
    page: Any = series.keyframe
    return bool(page.is_reduced) or series.name.lower() in _SIDE_PICTURES


def _check(series: TiffPageSeries, page: Any, name: str, content_bytes: int, *, single: bool) -> None:
    """Raise UserError for what can't be taken as an image, before its pixels are decoded."""
    several = series.axes not in (*_PLANE, *_CHANNELS_FIRST)
    if several and (single or not {"Y", "X"} < set(series.axes) or len(set(series.axes) & {"C", "S"}) > 1):
        planes = math.prod(series.shape) // (page.imagelength * page.imagewidth * page.samplesperpixel)
        raise UserError(
            f"{name}: TIFF of {planes} pages or planes (axes {series.axes}); save one plane per file, "
            "or set ingest.planes: split, or of the slices of a volume ingest.dimensions: 3"
        )
    refusal = _refusal(series, page)
    if refusal:
        raise UserError(f"{name}: TIFF {refusal}; save it as grey, RGB or channels of integers or floats")
    pages: list[Any] = list(series.pages)
    if any(part is None for part in pages):
        raise UserError(f"{name}: a part of an OME-TIFF whose other planes are in files of their own; join them in one")
    size_bytes = math.prod(series.shape) * page.dtype.itemsize
    check_size(
        page.imagelength,
        page.imagewidth,
        name,
        bytes_per_pixel=max(1, size_bytes // page.imagelength // page.imagewidth),
    )
    if any(0 in part.databytecounts for part in pages):
        raise UserError(f"{name}: a TIFF with strips or tiles that hold no data; export the image anew")
    packed = (
        size_bytes / 8 if page.bitspersample == 1 else size_bytes * min(1, page.bitspersample / 8 / page.dtype.itemsize)
    )
    check_filled(packed, content_bytes, name, ratio=_RATIO.get(page.compression.name, math.inf))


def _refusal(series: TiffPageSeries, page: Any) -> str | None:
    """Return why an image's samples or colours can't be taken, or None where they can."""
    known = {"MINISBLACK", "MINISWHITE", "RGB", "PALETTE"}
    if page.compression.name in ("JPEG", "OJPEG"):
        known.add("YCBCR")  # tifffile decodes these to RGB
    if page.dtype is None or page.dtype.name not in _KINDS:
        return f"of {page.dtype} samples"
    if page.bitspersample not in _UNPACKED_BITS:
        return f"of {page.bitspersample} bits per sample"
    channels = math.prod(size for size, axis in zip(series.shape, series.axes, strict=True) if axis in "CS")
    if channels > MAX_CHANNELS:
        return f"of {channels} channels"
    photometric = getattr(page.photometric, "name", str(page.photometric))
    if photometric == "MINISWHITE" and page.dtype.kind not in "bu":
        return f"of {page.dtype} samples in which 0 is white"
    return None if photometric in known else f"with colours as {photometric}"


def meaning_of(array: np.ndarray, page: Any, reading: Reading) -> Decoded:
    """Give samples their meaning: bits are 0 and 255, 0 may be white, a palette has colours, a channel may be alpha."""
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    photometric = page.photometric.name
    if photometric == "PALETTE":
        return by_palette(array, _colours(page.colormap), reading)
    if photometric == "MINISWHITE":
        if reading == "values":
            return Decoded(array, changes=("0 is white in the file; its stored values kept",))
        return Decoded(
            np.iinfo(array.dtype).max - array, changes=("0 is white in the file; inverted, as viewers show it",)
        )
    rgb = photometric in ("RGB", "YCBCR")
    alpha = array.ndim == 3 and bool(page.extrasamples) and (rgb or page.extrasamples[-1] in _ALPHA)
    return Decoded(array, alpha)


def _colours(colourmap_3N: np.ndarray) -> np.ndarray:
    """Return a TIFF's palette as N x 3 uint8; one without a value above 255 holds 8 bits, as libtiff takes it."""
    eight_bits = int(colourmap_3N.max(initial=0)) <= 255
    return (colourmap_3N.T if eight_bits else colourmap_3N.T >> 8).astype(np.uint8)
