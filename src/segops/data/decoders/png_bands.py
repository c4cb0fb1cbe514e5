"""Decodes a PNG run of rows by run of rows, so that neither the file nor its pixels are held as a whole.

Axes: H height, W width, C samples per pixel.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from segops.data.decoders.bounds import DEFLATE_RATIO, check_filled, check_size
from segops.data.decoders.decoded import Bands, Decoded
from segops.data.decoders.pictures import PNG_SAMPLES, may_turn

_BAND_BYTES, _PIECE_BYTES = 2**23, 2**16
_CHANGES = (b"tRNS", b"acTL")  # chunks that make another image of the samples
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_bands(path: Path, file: BinaryIO) -> Bands | None:
    """Return a PNG's rows in bands; None of a palette, of interlacing, of fewer than 8 bits, and of one to turn."""
    header = file.read(33)
    width, height, bits, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", header[16:29])
    bytes_per_pixel = PNG_SAMPLES.get(colour_type, 0) * bits // 8
    if bits not in (8, 16) or interlaced or colour_type not in (0, 2, 4, 6):
        return None
    check_size(height, width, str(path), bytes_per_pixel=bytes_per_pixel)
    check_filled(height * width * bytes_per_pixel, path.stat().st_size, str(path), ratio=DEFLATE_RATIO)
    file.seek(len(_SIGNATURE))
    for kind, begin in _chunks(file):
        if kind in _CHANGES or may_turn(kind, begin):
            return None
    alpha = colour_type in (4, 6)
    return Bands(height, width, lambda: (Decoded(band, alpha) for band in _decoded(path, header, bytes_per_pixel)))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and first bytes of each chunk, without reading the rest."""
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        begin = file.read(min(length, 64))
        file.seek(length - len(begin) + 4, io.SEEK_CUR)
        yield kind, begin


def _decoded(path: Path, header: bytes, bytes_per_pixel: int) -> Iterator[np.ndarray]:
    """Unpack a PNG piece by piece, and let libpng decode each run of rows as a PNG of its own.

    A row is filtered by the row before it, so each run but the first begins with the last row of the run before it.
    """
    import imagecodecs

    width, height = struct.unpack(">II", header[16:24])
    row_bytes = 1 + width * bytes_per_pixel
    step = max(1, _BAND_BYTES // row_bytes)
    before = b""
    with path.open("rb") as file:
        for filtered in _runs(_unpacked(file), [row_bytes * min(step, height - y) for y in range(0, height, step)]):
            rows = len(before + filtered) // row_bytes
            size = struct.pack(">II", width, rows) + header[24:29]
            content = (b"IHDR", size), (b"IDAT", zlib.compress(before + filtered, level=0)), (b"IEND", b"")
            band = np.asarray(imagecodecs.png_decode(_SIGNATURE + b"".join(_chunk(*chunk) for chunk in content)))
            yield band[1:] if before else band
            before = b"\0" + band[-1].astype(band.dtype.newbyteorder(">")).tobytes()


def _chunk(kind: bytes, content: bytes) -> bytes:
    """Build a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """Unpack the image data of a PNG, in pieces of bounded size. Raises ValueError for a sum that doesn't agree."""
    unpacker = zlib.decompressobj()
    file.seek(len(_SIGNATURE))
    while len(head := file.read(8)) == 8:
        left, kind = struct.unpack(">I4s", head)
        if kind != b"IDAT":
            file.seek(left + 4, io.SEEK_CUR)
            continue
        crc = zlib.crc32(kind)
        while left and (piece := file.read(min(left, _PIECE_BYTES))):
            left, crc = left - len(piece), zlib.crc32(piece, crc)
            while piece:
                yield unpacker.decompress(piece, _BAND_BYTES)
                piece = unpacker.unconsumed_tail
        if left or file.read(4) != struct.pack(">I", crc):
            raise ValueError("a chunk whose checksum doesn't agree")
    while not unpacker.eof:  # zlib may hold more than a piece
        yield unpacker.decompress(b"", _BAND_BYTES) or _short()


def _runs(pieces: Iterator[bytes], lengths: list[int]) -> Iterator[bytes]:
    """Cut bytes that come in pieces to given lengths. Raises ValueError where they are too few."""
    held = bytearray()
    for length in lengths:
        while len(held) < length:
            piece = next(pieces, None)
            held += _short() if piece is None else piece
        yield bytes(held[:length])
        del held[:length]
    for _ in pieces:  # the sums at the end are looked at as well
        pass


def _short() -> bytes:
    raise ValueError("its pixels end too early")
