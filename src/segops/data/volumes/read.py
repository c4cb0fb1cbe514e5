"""Reads a volume from its files, whatever kind they are: as an image, or as a mask on its image's grid.

Axes: D depth, H height, W width, C channels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.data.decoders.bounds import MAX_BYTES
from segops.data.decoders.decoded import Reading
from segops.data.decoders.kinds import READ, VOLUMES, kind_of
from segops.data.masks import whole_values
from segops.data.read_changes import ChangeLog
from segops.data.volumes.dicom import decode_series, is_dicom
from segops.data.volumes.grid import Grid, Volume, check_same, without_spacing
from segops.data.volumes.itk import DataFile, data_file_of, decode_itk
from segops.data.volumes.nifti import decode_nifti
from segops.data.volumes.pictures import decode_pictures
from segops.data.volumes.samples import kept_values
from segops.data.volumes.segments import Segment, segments_on
from segops.data.volumes.tiff import decode_stack
from segops.errors import OneLineError, UserError
from segops.files import GIB
from segops.params.file_rules import FileRules

Array = npt.NDArray[Any]
Read = Callable[[str], bytes]
_NO_GRID = "mask that doesn't say where it lies: taken as on its image's grid, its first slice the lowest"
_GZIP = b"\x1f\x8b"


def read_volume(
    read: Read, channels: Sequence[Sequence[str]], changes: ChangeLog, rules: FileRules
) -> tuple[Array, Grid]:
    """Read the files of a volume, on one grid.

    Args:
        read: a file's bytes by name.
        channels: the files that hold some of its channels, at least 1: one, or the slices of a DICOM series.

    Returns: DHWC int16 or float32, in the files' units, and its grid.
    Raises: UserError naming the file that is damaged, no volume, or on another grid than the first.
    """
    names = [files[0] for files in channels]
    volumes = [_decoded(read, files, "image", changes, rules) for files in channels]
    for name, volume in zip(names[1:], volumes[1:], strict=True):
        check_same(volume.grid, volumes[0].grid, name, names[0], "channels need one grid: register and resample them")
    kept = [kept_values(volume.array_DHWC, name, changes) for name, volume in zip(names, volumes, strict=True)]
    return (np.concatenate(kept, axis=-1) if kept[1:] else kept[0]), volumes[0].grid


class MaskFiles:
    """Reads the masks of a volume, which lie on its grid.

    Args:
        grid: the volume's.
        image: its name, for messages.
        tolerance: how far floats may lie from whole numbers.
        slices: the other files of masks that have a file per slice, by the first.
    """

    def __init__(
        self,
        read: Read,
        grid: Grid,
        image: str,
        changes: ChangeLog,
        rules: FileRules,
        tolerance: float,
        slices: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.grid, self._image, self._slices = grid, image, slices or {}
        self._read, self._changes, self._rules, self._tolerance = read, changes, rules, tolerance

    def values(self, name: str) -> Array:
        """Return the values of a mask file: integers DHW. Raises UserError naming the file."""
        files = (name, *self._slices.get(name, ()))
        volume = _decoded(self._read, files, "values", self._changes, self._rules)
        if volume.array_DHWC.shape[-1] != 1:
            raise UserError(f"{name}: a mask of {volume.array_DHWC.shape[-1]} channels; save it as one")
        check_same(volume.grid, self.grid, name, self._image, "export the mask on its image's grid")
        if volume.grid.affine is None and self.grid.affine is not None:
            self._changes.add(_NO_GRID, name, volume.array_DHWC.size)
        return whole_values(volume.array_DHWC[..., 0], name, self._changes, self._tolerance)

    def segments(self, name: str) -> Iterator[Segment]:
        """Yield the segments of a DICOM SEG. Raises UserError naming the file."""
        return segments_on(self._read(name), name, self.grid, self._image)


def _decoded(read: Read, files: Sequence[str], reading: Reading, changes: ChangeLog, rules: FileRules) -> Volume:
    """Decode a volume's files, note what is odd in them, and complete the spacing."""
    contents = [(name, unpacked(read(name), name)) for name in files]
    name = files[0]
    volume, notes = _decode(contents, read, reading, rules)
    array_DHWC = volume.array_DHWC
    if not array_DHWC.size:
        raise UserError(f"{name}: no voxels ({'x'.join(map(str, volume.grid.size_DHW))}); correct the header")
    if array_DHWC.dtype.kind == "f" and not np.isfinite(array_DHWC).all():
        raise UserError(f"{name}: holds values that aren't numbers (NaN or infinite); replace them in the file")
    for note in notes:
        changes.add(note, name, array_DHWC[..., 0].size)
    native = array_DHWC.astype(array_DHWC.dtype.newbyteorder("="), copy=False)
    return Volume(native, without_spacing(volume.grid, rules.spacing_mm, name))


def _decode(
    contents: Sequence[tuple[str, bytes]], read: Read, reading: Reading, rules: FileRules
) -> tuple[Volume, tuple[str, ...]]:
    """Decode files by their kind; what a decoder raises on damaged bytes becomes a line."""
    name, content = contents[0]
    if not content:
        raise UserError(f"{name}: the file is empty; copy it again")
    kind = "DICOM" if is_dicom(content) else kind_of(content, name)  # the 128 bytes before may be a TIFF's beginning
    try:
        match kind:
            case "DICOM":
                return decode_series(contents)
            case _ if contents[1:]:
                _check_pictures(kind, name)
                return decode_pictures(contents, reading, rules)
            case "NIfTI":
                return decode_nifti(content, name, rules)
            case "MetaImage" | "NRRD":
                return decode_itk(content, name, kind, _data_file(read, content, name, kind)), ()
            case "TIFF":
                return decode_stack(content, name, reading, rules)
    except OneLineError:
        raise
    except MemoryError:
        raise UserError(f"{name}: too large for this machine's memory; crop it") from None
    except Exception as error:  # decoders raise almost anything on damaged bytes
        # A DICOM header's values may be a patient's.
        reason = type(error).__name__ if kind == "DICOM" else " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: damaged or truncated {kind} ({reason}); copy the file again") from None
    what = kind or f"not a volume of a known kind (it begins with {content[:8]!r})"
    slices = "; where a folder's pictures are slices, set ingest.slices: folder" if kind in READ else ""
    raise UserError(f"{name}: {what}; ingest.dimensions 3 reads {', '.join(VOLUMES)}{slices}")


def _check_pictures(kind: str | None, name: str) -> None:
    """Raise UserError where the files of a folder aren't pictures."""
    if kind not in READ:
        raise UserError(f"{name}: {kind or 'of no known kind'}, no picture, but a slice of its folder (ingest.slices)")


def _data_file(read: Read, content: bytes, name: str, kind: str) -> DataFile | None:
    """Read the file beside a header that holds its voxels. Raises UserError where it isn't there."""
    beside = data_file_of(content, name, kind)
    if beside is None:
        return None
    try:
        return DataFile(beside, read(beside))
    except (KeyError, FileNotFoundError):
        raise UserError(f"{name}: its voxels are in '{beside}', which isn't there; put it beside its header") from None


def unpacked(content: bytes, name: str) -> bytes:
    """Return the content of a file that may be gzipped."""
    if not content.startswith(_GZIP):
        return content
    parts: list[bytes] = []
    while content.startswith(_GZIP):  # members follow each other, as blocked or parallel gzip writes them
        unpacker = zlib.decompressobj(wbits=31)
        try:
            parts.append(unpacker.decompress(content, MAX_BYTES - sum(map(len, parts)) + 1))
        except zlib.error as error:
            raise UserError(f"{name}: damaged or truncated gzip file ({error}); copy the file again") from None
        if sum(map(len, parts)) > MAX_BYTES:
            raise UserError(f"{name}: more than {MAX_BYTES / GIB:g} GiB unpacked; crop the volume")
        if not unpacker.eof:
            raise UserError(f"{name}: a truncated gzip file; copy the file again")
        content = unpacker.unused_data
    return b"".join(parts)
