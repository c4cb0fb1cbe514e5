"""Finds images that are related: copies, tiles of one field, neighbouring slices and frames.

A model that has seen an image's relative in training is judged too well on that image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy.typing as npt

from segops.data.grouping import FieldMatcher, connected
from segops.data.mask_fit import TURNS
from segops.data.overlaps import Anchors, anchors, overlaps
from segops.data.similarity import STEPS, Array, Likeness, alike, is_near_duplicate, signature

Kind = Literal[
    "same group", "duplicate", "near-duplicate", "overlapping tile", "adjacent tile", "neighbouring slice or frame"
]
KINDS: tuple[Kind, ...] = (
    "same group",
    "duplicate",
    "near-duplicate",
    "overlapping tile",
    "adjacent tile",
    "neighbouring slice or frame",
)


class Relative(NamedTuple):
    """A pair of related images, and what speaks for it; of one kind the larger strength is the closer relative."""

    image_id: str
    relative_id: str
    kind: Kind
    evidence: str
    strength: float = 0.0


class RelativeFinder:
    """Finds related images by their pixels. Feed it image by image; it keeps some kB of each.

    Args:
        tiles: images may be tiles of one field; slices of volumes aren't.
    """

    def __init__(self, *, tiles: bool = True) -> None:
        self._tiles = tiles
        self._signatures: dict[str, Array] = {}
        self._anchors: dict[str, Anchors] = {}
        self._fields = FieldMatcher()

    def add(self, image_id: str, image_HWC: npt.NDArray[Any]) -> None:
        """Remember an image. Raises ValueError for an id that was added before."""
        if self._tiles:
            self._fields.add(image_id, image_HWC)
            self._anchors[image_id] = anchors(image_HWC)
        self._signatures[image_id] = signature(image_HWC)

    def join(self, other: RelativeFinder) -> None:
        """Remember the images of another finder, none of which is known here."""
        self._signatures |= other._signatures
        self._anchors |= other._anchors
        self._fields.join(other._fields)

    def related(self, ours: Sequence[str], theirs: Sequence[str]) -> list[Relative]:
        """Return the pairs of one of our images and one of theirs that are related, sorted; each under its first kind.

        Images that share pixels at the same place are near-duplicates; tiles that are connected through others are
        adjacent too. Images with equal pixels count as near-duplicates here: their hashes say that they are equal.
        """
        found: dict[tuple[str, str], Relative] = {}
        tiles = self._overlapping(set(ours), set(theirs)), self._adjacent(set(ours), set(theirs))
        for parts in (self._alike(ours, theirs), *(tiles if self._tiles else ())):
            for pair in parts:
                before = found.get(pair[:2])
                if before is None or KINDS.index(pair.kind) < KINDS.index(before.kind):
                    found[pair[:2]] = pair
        return sorted(found.values())

    def _alike(self, ours: Sequence[str], theirs: Sequence[str]) -> Iterator[Relative]:
        """Yield near-duplicates and neighbours of a sequence."""
        signatures = [[self._signatures[name] for name in names] for names in (ours, theirs)]
        for pair in alike(signatures[0], signatures[1], (ours, theirs)):
            kind: Kind = "near-duplicate" if is_near_duplicate(pair) else "neighbouring slice or frame"
            yield Relative(ours[pair.first], theirs[pair.second], kind, _likeness(pair), pair.correlation)

    def _overlapping(self, ours: set[str], theirs: set[str]) -> Iterator[Relative]:
        """Yield images that share pixels."""
        names = sorted(ours | theirs)
        for pair in overlaps([self._anchors[name] for name in names]):
            down, right = pair.down_px, pair.right_px
            kind: Kind = "overlapping tile" if down or right else "near-duplicate"
            for ours_at, theirs_at, sign in ((pair.first, pair.second, 1), (pair.second, pair.first, -1)):
                if names[ours_at] in ours and names[theirs_at] in theirs:
                    evidence = f"equal pixels, {_offset(sign * down, sign * right)}"
                    yield Relative(names[ours_at], names[theirs_at], kind, evidence, pair.blocks)

    def _adjacent(self, ours: set[str], theirs: set[str]) -> Iterator[Relative]:
        """Yield tiles whose edges continue one another, and tiles that are connected through such."""
        direct: dict[tuple[str, str], str] = {}
        for link in self._fields.links():
            right = link.side == "right"
            direct[link.first, link.second] = f"neighbour {'on the right' if right else 'below'}"
            direct[link.second, link.first] = f"neighbour {'on the left' if right else 'above'}"
        field_of = connected(self._signatures, direct)
        tiles: dict[str, list[str]] = {}
        for other in sorted(theirs):
            tiles.setdefault(field_of[other], []).append(other)
        for image_id in sorted(ours):
            for other in tiles.get(field_of[image_id], ()):
                if other != image_id:
                    where = direct.get((image_id, other))
                    evidence = where or "of the same field, through other tiles"
                    yield Relative(image_id, other, "adjacent tile", evidence, float(where is not None))


def _likeness(pair: Likeness) -> str:
    """Word how alike two images are."""
    turned = f", {TURNS[pair.turn - 1]}" if pair.turn else ""
    by_name = pair.steps is not None and pair.steps <= STEPS
    steps = f", {pair.steps} {'step' if pair.steps == 1 else 'steps'} apart by name" if by_name else ""
    return f"correlation {pair.correlation:.2f}{turned}{steps}"


def _offset(down_px: int, right_px: int) -> str:
    """Word where the relative's pixels lie."""
    parts = [(down_px, "down", "up"), (right_px, "right", "left")]
    moved = ", ".join(f"{abs(px)} px {ahead if px > 0 else back}" for px, ahead, back in parts if px)
    return moved or "at the same place"
