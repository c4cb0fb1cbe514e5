"""Reads a volume from its files, whatever kind they are: as an image, or as a mask on its image's grid.

Axes: D depth, H height, W width, C channels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.data.decoders.bounds import MAX_BYTES
from segops.data.decoders.kinds import VOLUMES, kind_of
from segops.data.masks import whole_values
from segops.data.read_changes import ChangeLog
from segops.data.volumes.grid import Grid, Volume, check_same, without_spacing
from segops.data.volumes.nifti import decode_nifti
from segops.data.volumes.samples import kept_values
from segops.errors import UserError
from segops.files import GIB
from segops.params.file_rules import FileRules

Array = npt.NDArray[Any]
Read = Callable[[str], bytes]
_GZIP = b"\x1f\x8b"


def read_volume(read: Read, names: Sequence[str], changes: ChangeLog, rules: FileRules) -> tuple[Array, Grid]:
    """Read the files of a volume, each of which holds some of its channels, on one grid.

    Args:
        read: a file's bytes by name.
        names: the files, at least 1.

    Returns: DHWC int16 or float32, in the files' units, and its grid.
    Raises: UserError naming the file that is damaged, no volume, or on another grid than the first.
    """
    volumes = [_decoded(read(name), name, changes, rules) for name in names]
    for name, volume in zip(names[1:], volumes[1:], strict=True):
        check_same(volume.grid, volumes[0].grid, name, names[0], "channels need one grid: register and resample them")
    kept = [kept_values(volume.array_DHWC, name, changes) for name, volume in zip(names, volumes, strict=True)]
    return (np.concatenate(kept, axis=-1) if kept[1:] else kept[0]), volumes[0].grid


def read_values(
    read: Read, name: str, grid: Grid, image: str, changes: ChangeLog, rules: FileRules, tolerance: float
) -> Array:
    """Read the values of a mask that lies on its image's grid: integers DHW.

    Args:
        grid: the image's.
        image: its name, for messages.
        tolerance: how far floats may lie from whole numbers.

    Raises: UserError naming the file, also where it lies elsewhere or has several channels.
    """
    volume = _decoded(read(name), name, changes, rules)
    if volume.array_DHWC.shape[-1] != 1:
        raise UserError(f"{name}: a mask of {volume.array_DHWC.shape[-1]} volumes; save it as one")
    check_same(volume.grid, grid, name, image, "export the mask on its image's grid")
    return whole_values(volume.array_DHWC[..., 0], name, changes, tolerance)


def _decoded(content: bytes, name: str, changes: ChangeLog, rules: FileRules) -> Volume:
    """Decode a file, note what is odd in it, and complete its spacing."""
    volume, notes = _decode(_unpacked(content, name), name, rules)
    array_DHWC = volume.array_DHWC
    if array_DHWC.dtype.kind == "f" and not np.isfinite(array_DHWC).all():
        raise UserError(f"{name}: holds values that aren't numbers (NaN or infinite); replace them in the file")
    for note in notes:
        changes.add(note, name, array_DHWC[..., 0].size)
    native = array_DHWC.astype(array_DHWC.dtype.newbyteorder("="), copy=False)
    return Volume(native, without_spacing(volume.grid, rules.spacing_mm, name))


def _decode(content: bytes, name: str, rules: FileRules) -> tuple[Volume, tuple[str, ...]]:
    """Decode a file by its kind; what a decoder raises on damaged bytes becomes a line."""
    if not content:
        raise UserError(f"{name}: the file is empty; copy it again")
    kind = kind_of(content, name)
    if kind not in VOLUMES:
        what = kind or f"not a volume of a known kind (it begins with {content[:8]!r})"
        raise UserError(f"{name}: {what}; ingest.dimensions 3 reads {', '.join(VOLUMES)}")
    try:
        return decode_nifti(content, name, rules)
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{name}: too large for this machine's memory; crop it") from None
    except Exception as error:  # decoders raise almost anything on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: damaged or truncated {kind} ({reason}); copy the file again") from None


def _unpacked(content: bytes, name: str) -> bytes:
    """Return the content of a file that may be gzipped."""
    if not content.startswith(_GZIP):
        return content
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(content, MAX_BYTES)
    except zlib.error as error:
        raise UserError(f"{name}: damaged or truncated gzip file ({error}); copy the file again") from None
    if unpacker.unconsumed_tail:
        raise UserError(f"{name}: more than {MAX_BYTES / GIB:g} GiB unpacked; crop the volume")
    if not unpacker.eof:
        raise UserError(f"{name}: a truncated gzip file; copy the file again")
    return unpacked
