"""Reads the order of images in their names: slices, frames and tiles are numbered."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"(\d+)")


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Return a key that sorts numbers in names by value: img2 before img10."""
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in _NUMBER.split(name) if part)


def natural_order(names: Sequence[str]) -> list[str]:
    """Sort names with their numbers by value; names that are equal but for zeros in front by text."""
    return sorted(names, key=lambda name: (natural_key(name), name))


def steps_apart(first: str, second: str) -> int | None:
    """Return how far apart two names are in a numbered sequence, at least 1; None where they differ in more.

    `stack3_z04` and `stack3_z06` are 2 steps apart. Names that differ in two numbers aren't of one sequence.
    """
    ours, theirs = natural_key(first), natural_key(second)
    if len(ours) != len(theirs):
        return None
    differing = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    if len(differing) != 1:
        return None
    (a, b) = differing[0]
    return abs(a[1] - b[1]) if isinstance(a[1], int) and isinstance(b[1], int) else None


def runs(names: Sequence[str], most: int, length: int) -> list[str]:
    """Choose at most `most` names in their natural order: all, or evenly spaced runs of `length` neighbours."""
    ordered = natural_order(names)
    if len(ordered) <= most:
        return ordered
    count = max(1, most // length)
    length = min(length, most)
    last = len(ordered) - length
    starts = [round(number * last / max(1, count - 1)) for number in range(count)]
    return [ordered[at] for at in sorted({at for start in starts for at in range(start, start + length)})]
