"""Reads MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr), in a file or in a header with its data beside it, by SimpleITK.

ITK reads both with their spacing and direction; the alternatives, pynrrd and medpy, read one each or are not kept.

Axes: D depth, H height, W width, C channels.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from segops.data.decoders.bounds import check_size
from segops.data.volumes.extras import extra
from segops.data.volumes.grid import Volume, grid_of, oriented
from segops.errors import UserError
from segops.files import naming

_SUFFIXES = {"MetaImage": (".mha", ".mhd"), "NRRD": (".nrrd", ".nhdr")}
_HEADER_BYTES = 2**16  # at most
_DATA_FILE = {
    "MetaImage": re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]*?)[ \t]*\r?$", re.MULTILINE | re.IGNORECASE),
    "NRRD": re.compile(rb"^data ?file:[ \t]*([^\r\n]*?)[ \t]*\r?$", re.MULTILINE | re.IGNORECASE),
}
_FIELD = {
    "MetaImage": re.compile(rb"elementdatafile", re.IGNORECASE),
    "NRRD": re.compile(rb"data ?file", re.IGNORECASE),
}
# What makes a data file's length another than that of the voxels.
_OTHER_LENGTH = {
    "MetaImage": re.compile(
        rb"^[ \t]*(compresseddata[ \t]*=[ \t]*true|headersize[ \t]*=)", re.MULTILINE | re.IGNORECASE
    ),
    "NRRD": re.compile(rb"^(encoding:[ \t]*+(?!raw)|(byte|line) ?skip:)", re.MULTILINE | re.IGNORECASE),
}
_SPACING = {
    "MetaImage": re.compile(rb"^[ \t]*Element(Spacing|Size)[ \t]*=", re.MULTILINE | re.IGNORECASE),
    "NRRD": re.compile(rb"^(space directions|spacings):(?!.*\bnan\b)", re.MULTILINE | re.IGNORECASE),
}
_UNITS = re.compile(rb"^(?:space )?units:[ \t]*(.*)$", re.MULTILINE | re.IGNORECASE)
_MM = {b"mm", b"millimeter", b"millimeters", b"millimetre", b"millimetres", b""}


class DataFile(NamedTuple):
    """The file that a header's voxels are in."""

    name: str
    content: bytes


def data_file_of(content: bytes, name: str, kind: str) -> str | None:
    """Return the file beside a header that holds its voxels; None where they follow in the same file.

    Raises: UserError for a path, a list or a pattern of files: ITK would read whatever a header says.
    """
    header = _header(content, kind)
    named = _DATA_FILE[kind].findall(header)
    if kind == "NRRD" and not named and not _FIELD[kind].search(header):
        return None
    if kind == "MetaImage" and named and named[0].lower() == b"local":
        return None
    if len(named) != 1 or len(_FIELD[kind].findall(header)) != 1:
        whole = _SUFFIXES[kind][0]
        raise UserError(f"{name}: a {kind} header that doesn't name one file with its voxels; save both as one {whole}")
    text = named[0].decode("utf-8", "replace").removeprefix("./")
    if not text or text.upper().startswith("LIST") or set(text) & set("/\\%:") or text in (".", "..") or " " in text:
        raise UserError(
            f"{name}: its voxels are in '{text}', which isn't the name of a file beside it; save both as one "
            f"{_SUFFIXES[kind][0]}"
        )
    return str(PurePosixPath(name).parent / text)


def decode_itk(content: bytes, name: str, kind: str, data: DataFile | None = None) -> Volume:
    """Decode a MetaImage or a NRRD file.

    Args:
        data: the file that `data_file_of` names.

    Raises: UserError where it has no three axes, or its data file is of another length.
    """
    itk = extra("SimpleITK", f"{kind} files")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"segops-volume{_SUFFIXES[kind][data is not None]}"
        with naming(path):
            path.write_bytes(content)  # ITK reads files alone
            if data is not None:
                (Path(folder) / PurePosixPath(data.name).name).write_bytes(data.content)
        reader = itk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise _damaged(error, name, kind) from None
        size = reader.GetSize()
        if reader.GetDimension() != 3:
            raise UserError(
                f"{name}: {reader.GetDimension()} axes ({'x'.join(map(str, size))}); a volume has three: save each "
                "volume as a file"
            )
        check_size(size[0] * size[1], size[2] * reader.GetNumberOfComponents(), name, bytes_per_pixel=8)
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise _damaged(error, name, kind) from None
    array = itk.GetArrayFromImage(image)  # z, y, x
    if (
        data is not None
        and len(data.content) != array.nbytes
        and not _OTHER_LENGTH[kind].search(_header(content, kind))
    ):
        raise UserError(f"{data.name}: {len(data.content)} bytes, but {name} says {array.nbytes}; correct the header")
    array_DHWC = array[..., None] if array.ndim == 3 else array
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, :3], affine[:3, 3] = direction[:, ::-1], image.GetOrigin()
    volume = oriented(array_DHWC, affine, name)
    return (
        volume
        if _says_spacing(_header(content, kind), kind, name)
        else Volume(volume.array_DHWC, grid_of(volume.grid.size_DHW, None))
    )


def _says_spacing(header: bytes, kind: str, name: str) -> bool:
    """Return whether a header holds a spacing; ITK takes 1 mm where it doesn't, and any unit for mm.

    Raises: UserError for another unit.
    """
    units = {text.strip().lower() for line in _UNITS.findall(header) for text in re.findall(rb'"([^"]*)"', line)}
    if kind == "NRRD" and units - _MM:
        unit = sorted(units - _MM)[0].decode("utf-8", "replace")
        raise UserError(f"{name}: its voxels are measured in '{unit}'; save it in mm")
    return _SPACING[kind].search(header) is not None


def _damaged(error: RuntimeError, name: str, kind: str) -> UserError:
    """Word what ITK raised, without its places in memory and on the disk."""
    said = re.split(r"ITK ERROR: (?:\w+\(0x[0-9a-f]+\): )?", " ".join(str(error).split()))[-1]
    reason = re.sub(r"\S*segops-volume\.\w+", "the file", said).partition(" Reason:")[0]
    return UserError(f"{name}: damaged or truncated {kind} ({reason}); copy the file again")


def _header(content: bytes, kind: str) -> bytes:
    """Return the text before the voxels."""
    head = content[:_HEADER_BYTES]
    if kind == "NRRD":
        return re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
    end = _DATA_FILE[kind].search(head)  # the last line of a MetaImage's header
    return head[: end.end()] if end else head
