"""Writes a PNG row by row, so that a large mask is never held as a whole.

Axes: H height, W width; h rows of a strip.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from segops.pictures.images import class_palette

_GREY, _PALETTE = 0, 3  # colour types of the PNG specification
_LEVEL = 6
_CHUNK_BYTES = 2**15
_UNFILTERED = 0


def write_mask(
    path: Path, size_hw: tuple[int, int], strips: Iterable[npt.NDArray[Any]], class_colours: Sequence[str] = ()
) -> None:
    """Write a uint8 mask HW that comes in strips hW, from top to bottom; equal masks give equal bytes.

    Args:
        class_colours: makes it a PNG with a palette, which keeps the indices of classes.
    """
    height, width = size_hw
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        kind = _PALETTE if class_colours else _GREY
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
        if class_colours:
            _chunk(file, b"PLTE", class_palette(class_colours).tobytes())
        packed = bytearray()
        for part in _packed(size_hw, strips):
            packed += part
            while len(packed) >= _CHUNK_BYTES:  # of one size, however many rows a strip has
                _chunk(file, b"IDAT", bytes(packed[:_CHUNK_BYTES]))
                del packed[:_CHUNK_BYTES]
        _chunk(file, b"IDAT", bytes(packed))
        _chunk(file, b"IEND", b"")


def _packed(size_hw: tuple[int, int], strips: Iterable[npt.NDArray[Any]]) -> Iterator[bytes]:
    """Compress a mask by its runs, which takes half the time of a search for repeats, or less, and gives less."""
    (height, width), packer, rows = size_hw, zlib.compressobj(_LEVEL, strategy=zlib.Z_RLE), 0
    for strip_hW in strips:
        assert strip_hW.dtype == np.uint8
        assert strip_hW.shape[1] == width
        rows += len(strip_hW)
        filtered = np.full((len(strip_hW), width + 1), _UNFILTERED, np.uint8)  # each row begins with its filter
        filtered[:, 1:] = strip_hW
        yield packer.compress(filtered.data)
    assert rows == height, "strips make up the mask"
    yield packer.flush()


def _chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    """Write a chunk: length, kind, content, sum."""
    file.write(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
    )
