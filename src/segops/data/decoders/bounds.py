"""Checks the size that a file's header claims, before memory is asked for it."""

from __future__ import annotations

from segops.errors import UserError
from segops.files import GIB

MAX_PIXELS = 2**30
MAX_BYTES = 4 * GIB
MAX_CHANNELS = 64
DEFLATE_RATIO = 1032  # bytes that a byte of deflate gives at most (zlib's "technical details")


def check_size(height: int, width: int, name: str, *, bytes_per_pixel: float = 1) -> None:
    """Raise UserError for an image that is too large to read."""
    pixels = height * width
    if pixels > MAX_PIXELS:
        raise UserError(f"{name}: {pixels:,} pixels; images up to {MAX_PIXELS:,} are read, cut it into tiles")
    if pixels * bytes_per_pixel > MAX_BYTES:
        raise UserError(
            f"{name}: {pixels * bytes_per_pixel / GIB:.1f} GiB of pixels; images up to {MAX_BYTES / GIB:g} GiB are "
            "read, cut it into tiles"
        )


def check_filled(needed: float, given: int, name: str, *, ratio: float = 1) -> None:
    """Raise UserError where a file has too few bytes for the pixels that its header claims.

    Args:
        needed: bytes of the pixels, unpacked.
        given: bytes in the file.
        ratio: unpacked bytes that a packed byte gives at most.
    """
    if needed > given * ratio:
        raise UserError(
            f"{name}: damaged or truncated: its header claims {needed:,.0f} bytes of pixels, more than its {given:,} "
            "bytes can hold; copy the file again"
        )
