"""Finds images that share pixels, such as overlapping tiles of a slide, wherever the shared part lies in each.

Axes: H height, W width, C channels, N blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_BLOCK_PX = 8
_ANCHORS = 1024  # blocks of an image that are compared: those with the smallest hashes, so the same in each image
_FEWEST_BLOCKS = 8  # of one displacement
_MOST_IMAGES = 12  # that share a block; more is a scale bar or a logo
_TEXTURE = 40  # of 56 steps between neighbours in a block aren't 0
_ROW, _COLUMN = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F  # odd numbers of 64 bits without a pattern
_CHANNEL, _MIX = np.uint64(0x165667B19E3779F9), np.uint64(0xD6E8FEB86659FD93)


class Overlap(NamedTuple):
    """Two images, by number, that share pixels: the second's origin lies `down` and `right` of the first's."""

    first: int
    second: int
    down_px: int
    right_px: int
    blocks: int


class Anchors(NamedTuple):
    """Hashes of an image's blocks, with the row and column of each."""

    hash_N: npt.NDArray[np.uint64]
    row_N: npt.NDArray[np.int64]
    column_N: npt.NDArray[np.int64]


def anchors(image_HWC: npt.NDArray[Any]) -> Anchors:
    """Hash the image's blocks of 8 x 8 pixels that have a texture, and keep those with the smallest hashes.

    Tiles that overlap have equal pixels where they do, wherever that is in each of them (Schleimer et al. 2003,
    "Winnowing", in two dimensions).
    """
    empty = np.zeros(0, np.int64)
    if min(image_HWC.shape[:2]) < 2 * _BLOCK_PX:
        return Anchors(empty.astype(np.uint64), empty, empty)
    kind = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[image_HWC.dtype.itemsize]
    value_HW = np.zeros(image_HWC.shape[:2], np.uint64)
    for channel in np.moveaxis(np.ascontiguousarray(image_HWC).view(kind), -1, 0):
        value_HW = value_HW * _CHANNEL + channel.astype(np.uint64) + np.uint64(1)
    hash_HW = _summed(_summed(value_HW, 1, _COLUMN), 0, _ROW)
    hash_HW = (hash_HW ^ (hash_HW >> np.uint64(32))) * _MIX
    steps_HW = np.pad((value_HW[:, 1:] != value_HW[:, :-1]).astype(np.uint8), ((0, 0), (0, 1)))
    texture_HW = _summed(_summed(steps_HW, 1, 1), 0, 1)
    place_N = np.flatnonzero(texture_HW >= _TEXTURE)
    hash_N = hash_HW.ravel()[place_N]
    kept = np.argpartition(hash_N, _ANCHORS)[:_ANCHORS] if len(hash_N) > _ANCHORS else np.arange(len(hash_N))
    row_N, column_N = np.divmod(place_N[kept], hash_HW.shape[1])
    return Anchors(hash_N[kept], row_N, column_N)


def _summed(value_HW: npt.NDArray[Any], axis: int, factor: int) -> npt.NDArray[Any]:
    """Sum _BLOCK_PX neighbours along an axis, the one at place k times factor to the power of k, modulo the type."""
    total_HW = np.moveaxis(value_HW, axis, 0)
    length = 1
    while length < _BLOCK_PX:  # sums of 2, 4 and 8 neighbours
        power = value_HW.dtype.type(pow(factor, length, 2 ** (8 * value_HW.dtype.itemsize)))
        later_HW = total_HW[length:]
        total_HW = total_HW[:-length] + (later_HW * power if power != 1 else later_HW)
        length *= 2
    return np.moveaxis(total_HW, 0, axis)


def overlaps(found: Sequence[Anchors]) -> Iterator[Overlap]:
    """Yield the pairs of images that share pixels at one displacement, the earlier image first."""
    if not found:
        return
    image_N = np.repeat(np.arange(len(found)), [len(anchor.hash_N) for anchor in found])
    hash_N = np.concatenate([anchor.hash_N for anchor in found])
    place_N2 = np.stack(
        [np.concatenate([anchor.row_N for anchor in found]), np.concatenate([anchor.column_N for anchor in found])],
        axis=1,
    )
    order = np.lexsort((image_N, hash_N))
    image_N, hash_N, place_N2 = image_N[order], hash_N[order], place_N2[order]
    ends = np.flatnonzero(np.diff(hash_N, append=hash_N[-1:] + np.uint64(1)) != 0) + 1
    votes: dict[tuple[int, int, int, int], int] = {}
    for start, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
        if not 1 < end - start <= _MOST_IMAGES:
            continue
        for first in range(start, end):
            for second in range(first + 1, end):
                if image_N[first] != image_N[second]:
                    down, right = (place_N2[first] - place_N2[second]).tolist()
                    key = int(image_N[first]), int(image_N[second]), down, right
                    votes[key] = votes.get(key, 0) + 1
    for (first, second, down, right), blocks in sorted(votes.items()):
        if blocks >= _FEWEST_BLOCKS:
            yield Overlap(first, second, down, right, blocks)
