"""Holds arrays in flat files: C-order little-endian bytes, one array after another, each at a multiple of 8.

Where an array begins follows from the sizes of those before it, so that several processes may write one file.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np

from segops.data.objects import number_dtype
from segops.errors import UserError

IMAGES = "images.bin"
MASKS = "masks.bin"
OBJECTS = "objects.bin"
_ALIGNED_BYTES = 8  # the largest item, so that where an array begins follows from the sizes of those before it


def flat_bytes(size_bytes: int) -> int:
    """Return what an array of so many bytes takes in a flat file."""
    return size_bytes + -size_bytes % _ALIGNED_BYTES


class FlatWriter:
    """Appends arrays to a flat file.

    Args:
        file: stands where the first array goes.
        begin: the offset of that place in the whole file, bytes, a multiple of 8.
    """

    def __init__(self, file: IO[bytes], begin: int = 0) -> None:
        self._file, self._end = file, begin

    def append(self, array: np.ndarray) -> int:
        """Write an array's C-order little-endian bytes, up to a multiple of 8; return its offset in bytes."""
        offset = self._end
        self._file.write(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
        self._file.write(bytes(flat_bytes(array.nbytes) - array.nbytes))
        self._end += flat_bytes(array.nbytes)
        return offset


def array_dtype(entry: dict[Any, Any], part: str) -> np.dtype:
    """Return the type of a row's image, mask or object map, little endian."""
    dtype: np.dtype[Any]
    match part:
        case "image":
            dtype = np.dtype(entry["dtype"])
        case "mask":
            dtype = np.dtype(np.uint8)
        case _:
            dtype = number_dtype(entry["instances"])
    return dtype.newbyteorder("<")


def array_bytes(entry: dict[Any, Any], part: str) -> int:
    """Return the size of a row's image, mask or object map (where it has one)."""
    samples = int(entry["depth"]) * int(entry["height"]) * int(entry["width"])
    return samples * (int(entry["channels"]) if part == "image" else 1) * array_dtype(entry, part).itemsize


def array_end(entry: dict[Any, Any], part: str) -> int:
    """Return the offset in bytes at which a row's image, mask or object map ends in its flat file."""
    return int(entry[f"{part}_offset"]) + array_bytes(entry, part)


def map_bytes(path: Path, end: int) -> np.ndarray:
    """Memory-map a flat file as bytes.

    Args:
        end: of its last array, bytes.

    Raises: UserError where it is missing or of another size.
    """
    size_bytes = flat_bytes(end)
    try:
        file_bytes = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run prepare again (`dvc repro`)") from None
    if file_bytes != size_bytes:
        raise UserError(f"{path}: {file_bytes} bytes, its index needs {size_bytes}; delete it and run prepare again")
    return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
