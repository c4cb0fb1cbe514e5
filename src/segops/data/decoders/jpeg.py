"""Decodes JPEG data strictly: what libjpeg passes over with a warning and a guess is an error."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from segops.data.decoders.bounds import check_filled
from segops.errors import UserError

_BLOCK_PX = 8
_ZEROS = bytes(32)  # 256 bits
_SCAN, _HUFFMAN, _PROGRESSIVE, _END = 0xDA, 0xC4, 0xC2, 0xD9
_RESTARTS = range(0xD0, 0xD8)
_AC_CLASS, _END_OF_BLOCK = 1, 0


def check_jpeg(content: bytes, name: str, height: int, width: int) -> None:
    """Raise UserError for data that can't be a picture of that size.

    A block of 8 x 8 pixels takes a bit at least. A long run of zero bytes is what a failed copy leaves, and it decodes
    to noise without a warning. In a flat picture zero bits may be blocks that end at once: where the encoder chose its
    own codes, or in progressive scans.
    """
    blocks = math.ceil(height / _BLOCK_PX) * math.ceil(width / _BLOCK_PX)
    check_filled(blocks / 8, len(content), name)
    segments = list(_segments(content))
    markers = [marker for marker, _ in segments]
    firsts = [first for marker, body in segments if marker == _HUFFMAN for first in _zeros_mean(body)]
    flat_is_zeros = all(first == _END_OF_BLOCK for first in firsts) or _PROGRESSIVE in markers
    if not flat_is_zeros and any(_ZEROS in body for marker, body in segments if marker == _SCAN):
        raise UserError(f"{name}: damaged JPEG (a run of zeros in its data); copy the file again")


def jpeg_pixels(content: bytes, *, grey: bool) -> np.ndarray:
    """Decode to HWC uint8. Raises ValueError where libjpeg would warn and guess."""
    import simplejpeg

    pixels_HWC: np.ndarray = simplejpeg.decode_jpeg(content, colorspace="GRAY" if grey else "RGB", strict=True)
    return pixels_HWC


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of the segments of the first picture in a file; a scan's body is its data."""
    start = 2
    while start + 4 <= len(content) and content[start] == 0xFF:
        marker = content[start + 1]
        if marker == _END:
            return
        if marker == 0xFF:  # a fill byte
            start += 1
            continue
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        body_start = start + 4
        if marker == _SCAN:
            body_start, end = end, _scan_end(content, end)
        yield marker, content[body_start:end]
        start = end


def _scan_end(content: bytes, start: int) -> int:
    """Return where a scan's data ends: at the next marker that is no restart."""
    while (start := content.find(b"\xff", start)) >= 0:
        following = content[start + 1] if start + 1 < len(content) else _END
        if following != 0 and following not in _RESTARTS:
            return start
        start += 2
    return len(content)


def _zeros_mean(tables: bytes) -> Iterator[int]:
    """Yield what the shortest code, all zeros, stands for in each AC table of a segment."""
    start = 0
    while start + 17 < len(tables):
        if tables[start] >> 4 == _AC_CLASS:
            yield tables[start + 17]
        start += 17 + sum(tables[start + 1 : start + 17])
