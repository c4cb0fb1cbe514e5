"""Holds a fetched object against its ETag, which for an upload in parts is a sum of the parts' sums.

Such an ETag is the MD5 of the parts' MD5s, one after another, a dash, and the number of parts (AWS's user guide,
"Checking object integrity"). Where the parts begin, the server tells when it is asked for a part; for a server that
doesn't, the sizes that programs upload by are tried.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segops.files import MIB, md5_file

_ETAG = re.compile(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,4}))?")
_COMMON_MIB = (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 512, 1024)
_ASKED_AT_ONCE = 8
_PIECE_BYTES = MIB

PartSize = Callable[[int], int | None]
"""Asks a server for the size of a part, numbered from 1; None: it doesn't tell."""


def differs(path: Path, etag: str, part_size: PartSize) -> bool | None:
    """Tell whether a file's content differs from what an ETag was made of.

    Returns: None where that can't be known: an ETag of another kind, or of parts of unknown sizes.
    """
    kind = _ETAG.fullmatch(etag)
    if kind is None:
        return None
    if kind[2] is None:
        return md5_file(path) != etag
    number, size_bytes = int(kind[2]), path.stat().st_size
    first = part_size(1)
    if first is None:
        return False if any(_sum(path, sizes) == etag for sizes in _guesses(number, size_bytes)) else None
    if (even := _even(first, number, size_bytes)) is not None and _sum(path, even) == etag:
        return False
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:  # parts may have any sizes, so ask for each
        asked = list(pool.map(part_size, range(1, number + 1)))
    told = [size for size in asked if size is not None]
    if len(told) != number:
        return None
    return sum(told) != size_bytes or _sum(path, told) != etag


def _guesses(number: int, size_bytes: int) -> Iterator[list[int]]:
    """Yield the sizes of parts that common programs would have cut a file of this size into."""
    least = -(-size_bytes // max(number, 1))
    for part_bytes in dict.fromkeys([least, -(-least // MIB) * MIB, *(mib * MIB for mib in _COMMON_MIB)]):
        if (even := _even(part_bytes, number, size_bytes)) is not None:
            yield even


def _even(part_bytes: int, number: int, size_bytes: int) -> list[int] | None:
    """Return the sizes of `number` equal parts with a smaller last one; None where that isn't the file's size."""
    last = size_bytes - part_bytes * (number - 1)
    return [part_bytes] * (number - 1) + [last] if 0 < last <= part_bytes else None


def _sum(path: Path, sizes: list[int]) -> str:
    """Return the ETag that a file would have, uploaded in parts of these sizes, bytes."""
    sums = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        for size_bytes in sizes:
            part, left = hashlib.md5(usedforsecurity=False), size_bytes
            while left and (piece := file.read(min(left, _PIECE_BYTES))):
                part.update(piece)
                left -= len(piece)
            sums.update(part.digest())
    return f"{sums.hexdigest()}-{len(sizes)}"
