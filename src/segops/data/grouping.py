"""Finds images that are tiles of the same larger field of view.

A tile's neighbour shows the same cells cut by the seam, so tiles of a field in two subsets of a split leak. Two tiles
are neighbours when the last line of the first continues in the first line of the second. The measure follows the puzzle
literature (Gallagher, "Jigsaw puzzles with pieces of unknown orientation", CVPR 2012): the step across the seam is
compared with the steps inside the tiles. A dark background continues in every other dark background, so the seam must
show structure as well: its gradients along the seam must agree.

Axes: N tiles, 4 lines (last, second to last, first, second), L pixels along the seam, C channels.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Lines = npt.NDArray[np.generic]
Side = Literal["right", "below"]

_SMOOTHING_PX = 1.0  # Gaussian sigma along the seam: sensor noise is not structure
_MIN_AGREEMENT = 0.6  # of the gradients along the seam; 1: equal, 0: unrelated or no structure
_MAX_STEP_RATIO = 1.4  # step across the seam, in steps inside the tiles; true seams have about 1
_MIN_MARGIN = 1.25  # how many times the disagreement of the second-best partner exceeds the best partner's
_MIN_STEP = 0.25  # grey levels; a step inside a tile can't be measured finer
_MIN_SIDE_PX = 16  # shorter seams hold too little structure
_MAX_PARTNERS = 32  # of an edge, looked at closely
_BLOCK_ROWS = 256


@dataclass(frozen=True)
class Link:
    """Two tiles of the same field: `second` lies right of `first`, or below it."""

    first: str
    second: str
    side: Side
    agreement: float
    step_ratio: float


class FieldMatcher:
    """Finds tiles of the same field. Feed it image by image; it keeps eight lines of pixels per image.

    Seams of the same length, channel count and sample type are compared. Images with equal pixels share a group too.
    Tiles that overlap or lie apart are not found, nor are neighbours whose whole seam is empty background.
    """

    def __init__(self) -> None:
        self._lines: dict[tuple[Side, tuple[int, ...], str], dict[str, Lines]] = defaultdict(dict)
        self._twins: dict[bytes, list[str]] = defaultdict(list)
        self._ids: set[str] = set()

    def add(self, image_id: str, image_HWC: Lines) -> None:
        """Remember the border of an image (uint8 or uint16). Raises ValueError for an id that was added before."""
        if image_id in self._ids:
            raise ValueError(f"image {image_id} was added twice")
        self._ids.add(image_id)
        self._twins[_pixels_digest(image_HWC)].append(image_id)
        if min(image_HWC.shape[:2]) < _MIN_SIDE_PX:
            return
        sides: tuple[tuple[Side, Lines], ...] = (("below", image_HWC), ("right", image_HWC.swapaxes(0, 1)))
        for side, image in sides:
            lines_4LC = np.ascontiguousarray(image[[-1, -2, 0, 1]])
            self._lines[side, lines_4LC.shape, lines_4LC.dtype.str][image_id] = lines_4LC

    def join(self, other: FieldMatcher) -> None:
        """Remember the images of another matcher, none of which is known here."""
        for kind, lines in other._lines.items():
            self._lines[kind].update(lines)
        for digest, twins in other._twins.items():
            self._twins[digest] += twins
        self._ids |= other._ids

    def links(self) -> list[Link]:
        """Return the neighbouring tiles, sorted by the first tile's id; of equal images only the first counts."""
        copies = {twin for twins in self._twins.values() for twin in sorted(twins)[1:]}
        links = []
        for (side, *_), lines in self._lines.items():
            ids = sorted(set(lines) - copies)
            lines_N4LC = np.stack([lines[image_id] for image_id in ids])
            for first, second, agreement, ratio in _continuations(lines_N4LC):
                links.append(Link(ids[first], ids[second], side, agreement, ratio))
        return sorted(links, key=lambda link: (link.first, link.side))

    def groups(self) -> dict[str, str]:
        """Return the group of every image: the smallest id in its field. The order of `add` doesn't matter."""
        pairs = [(link.first, link.second) for link in self.links()]
        pairs += [(twins[0], twin) for twins in self._twins.values() for twin in twins[1:]]
        return connected(self._ids, pairs)


def _pixels_digest(image_HWC: Lines) -> bytes:
    """Hash dtype, shape and pixels, so that equal images are known."""
    digest = hashlib.sha256(f"{image_HWC.dtype.str}{image_HWC.shape}".encode())
    digest.update(np.ascontiguousarray(image_HWC).data)
    return digest.digest()


def _continuations(lines_N4LC: Lines) -> Iterator[tuple[int, int, float, float]]:
    """Yield (i, j, agreement, step ratio) where the last line of tile i continues in the first line of tile j.

    i and j must be each other's best partner, clearly better than their second-best ones: an edge that fits several
    tiles (a frame burnt into every image) proves nothing.
    """
    from scipy.ndimage import gaussian_filter1d

    smooth_N4LC: Array = gaussian_filter1d(lines_N4LC.astype(np.float32), _SMOOTHING_PX, axis=2, mode="nearest")
    end_NLC, before_NLC, start_NLC, after_NLC = (smooth_N4LC[:, line] for line in range(4))
    step_at_end_N = np.abs(end_NLC - before_NLC).mean(axis=(1, 2))
    step_at_start_N = np.abs(start_NLC - after_NLC).mean(axis=(1, 2))
    by_end: dict[int, list[tuple[float, int, float]]] = defaultdict(list)
    by_start: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for i, partners, agreements in _structured(end_NLC, start_NLC):
        step_across = np.abs(end_NLC[i] - start_NLC[partners]).mean(axis=(1, 2))
        step_inside = (step_at_end_N[i] + step_at_start_N[partners]) / 2
        ratios = step_across / np.maximum(step_inside, _MIN_STEP)
        for j, agreement, ratio in zip(partners.tolist(), agreements.tolist(), ratios.tolist(), strict=True):
            if ratio <= _MAX_STEP_RATIO:
                by_end[i].append((1 - agreement, j, ratio))
                by_start[j].append((1 - agreement, i))
    for i, candidates in by_end.items():
        disagreement, j, ratio = min(candidates)
        if min(by_start[j])[1] == i and _is_clear(candidates) and _is_clear(by_start[j]):
            yield i, j, 1 - disagreement, ratio


def _structured(end_NLC: Array, start_NLC: Array) -> Iterator[tuple[int, npt.NDArray[np.intp], Array]]:
    """For each tile i yield the best partners j whose gradients along the seam agree, and how well.

    Agreement is 2 a.b / (a.a + b.b), the concordance of the two gradient profiles: it falls when they differ in shape
    or in strength, and is 0 where there is no structure.
    """
    n = len(end_NLC)
    end_NF = np.diff(end_NLC, axis=1).reshape(n, -1)
    start_NF = np.diff(start_NLC, axis=1).reshape(n, -1)
    end_energy_N, start_energy_N = (end_NF**2).sum(axis=1), (start_NF**2).sum(axis=1)
    for first in range(0, n, _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        energy_RN = end_energy_N[block, None] + start_energy_N[None] + 1e-6
        agreement_RN = 2 * (end_NF[block] @ start_NF.T) / energy_RN
        for i, agreement_N in enumerate(agreement_RN, start=first):
            agreement_N[i] = -1  # a tile is not its own neighbour
            partners = np.argsort(-agreement_N, kind="stable")[:_MAX_PARTNERS]
            partners = partners[agreement_N[partners] >= _MIN_AGREEMENT]
            if len(partners):
                yield i, partners, agreement_N[partners]


def _is_clear(candidates: Sequence[tuple[float, ...]]) -> bool:
    """Return whether the smallest disagreement (first in each tuple) is clearly below the second smallest."""
    smallest = sorted(candidate[0] for candidate in candidates)[:2]
    return len(smallest) == 1 or smallest[1] >= _MIN_MARGIN * max(smallest[0], 1e-3)


def connected(members: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return, by member, the smallest member of its connected component in an undirected graph of `pairs`."""
    parent = {member: member for member in members}

    def root(member: str) -> str:
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return {member: root(member) for member in sorted(parent)}
