"""Decodes NPY files, and NPZ files that hold a single array. Pickles are never loaded."""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any, BinaryIO

import numpy as np

from segops.data.decoders.bounds import MAX_CHANNELS, check_filled, check_size
from segops.data.decoders.decoded import Decoded
from segops.errors import UserError

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def decode_npy(content: bytes, name: str) -> Decoded:
    """Load an NPY file. Raises UserError for a type or shape that is no image's, or a header that lies."""
    stream = io.BytesIO(content)
    npy_header(stream, len(content), name)
    stream.seek(0)
    return Decoded(np.load(stream, allow_pickle=False))


def npy_header(stream: BinaryIO, size_bytes: int, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, Fortran order and type of an NPY file's array, up to its first value.

    Args:
        size_bytes: of the file.

    Raises: UserError as `decode_npy`.
    """
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise UserError(f"{name}: an NPY file of version {version}; save it with numpy.save")
    shape, fortran_order, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise UserError(f"{name}: an array of Python objects, which only pickle reads; save an array of numbers")
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise UserError(f"{name}: an array of {dtype}; save it as integers or floats")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[-1] > MAX_CHANNELS):
        raise UserError(
            f"{name}: an array of shape {shape}; save height x width, or height x width x up to {MAX_CHANNELS} channels"
        )
    check_size(shape[0], shape[1], name, bytes_per_pixel=math.prod(shape[2:]) * dtype.itemsize)
    check_filled(math.prod(shape) * dtype.itemsize, size_bytes - stream.tell(), name)
    return shape, fortran_order, dtype


def decode_npz(content: bytes, name: str) -> Decoded:
    """Load an NPZ file of one array. Raises UserError where it holds another number, or as `decode_npy`."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        arrays = [member for member in members if member.filename.endswith(".npy")]
        if len(members) != 1 or not arrays:
            what = ", ".join(sorted(member.filename.removesuffix(".npy") for member in members)) or "nothing"
            raise UserError(f"{name}: an NPZ file that holds {what}; save one array per file")
        check_size(1, 1, name, bytes_per_pixel=arrays[0].file_size)
        return decode_npy(archive.read(arrays[0]), name)
