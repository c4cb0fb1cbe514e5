"""Finds images that look alike, whichever way they are turned, by maps of few cells.

Two independent images of a microscope hardly correlate once slow changes of brightness are taken off: among 162,000
pairs of the 2018 Data Science Bowl's fields, each in eight orientations, the largest correlation is below 0.5.

Axes: N images, P cells of a map, flattened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.data.mask_fit import resized, turned
from segops.data.name_sequences import steps_apart

Array = npt.NDArray[np.float32]

_SIDE = 48
_SURROUNDINGS = _SIDE // 4 + 1
_SAME = 0.95  # correlation of copies, whatever the others have
_ALIKE, _ALIKE_DEVIATIONS = 0.6, 8.0  # of copies that were changed: beyond what other images have
_NEIGHBOUR, _NEIGHBOUR_DEVIATIONS = 0.45, 6.0  # of slices and frames whose names follow one another
STEPS = 3  # by which names of neighbours lie apart at most
_BLOCK_ROWS = 512


class Likeness(NamedTuple):
    """Two images that look alike, by number; `turn` is what `data.mask_fit.turned` does to the second."""

    first: int
    second: int
    correlation: float
    turn: int
    steps: int | None


def signature(image_HWC: npt.NDArray[Any]) -> Array:
    """Return a map of an image: brightness against the surroundings, in their deviations; of length 1, or 0."""
    from scipy.ndimage import uniform_filter

    cells = resized(image_HWC.astype(np.float32).mean(axis=-1), _SIDE, _SIDE)
    cells -= uniform_filter(cells, _SURROUNDINGS, mode="nearest")
    spread = np.sqrt(uniform_filter(cells**2, _SURROUNDINGS, mode="nearest"))
    cells = np.clip(cells / (spread + 0.25 * spread.mean() + 1e-12), -3, 3)
    cells -= cells.mean()
    length = float(np.linalg.norm(cells))
    return cells / length if length > 1e-6 else np.zeros_like(cells)


def alike(
    first: Sequence[Array], second: Sequence[Array], names: tuple[Sequence[str], Sequence[str]]
) -> list[Likeness]:
    """Find the pairs that are near-duplicates, or neighbours of a sequence of names.

    Args:
        first, second: signatures.
        names: of both; an image isn't compared with itself.
    """
    if not first or not second:
        return []
    first_NP = np.stack(first).reshape(len(first), -1)
    turned_8NP = [np.stack([turned(map_HW, turn) for map_HW in second]).reshape(len(second), -1) for turn in range(8)]
    found = []
    for start in range(0, len(first_NP), _BLOCK_ROWS):
        by_turn = np.stack([first_NP[start : start + _BLOCK_ROWS] @ second_NP.T for second_NP in turned_8NP])
        turn_RN, best_RN = by_turn.argmax(axis=0), by_turn.max(axis=0)
        centre_R1 = np.median(best_RN, axis=1, keepdims=True)
        deviation_R1 = np.maximum(1.4826 * np.median(np.abs(best_RN - centre_R1), axis=1, keepdims=True), 0.02)
        for row, column in zip(*np.nonzero(best_RN >= _NEIGHBOUR), strict=True):
            ours, theirs = names[0][start + row], names[1][column]
            correlation, turn = float(best_RN[row, column]), int(turn_RN[row, column])
            deviations = (correlation - centre_R1[row, 0]) / deviation_R1[row, 0]
            steps = steps_apart(ours, theirs)
            if ours != theirs and _related(correlation, float(deviations), steps, turn):
                found.append(Likeness(int(start + row), int(column), correlation, turn, steps))
    return found


def _related(correlation: float, deviations: float, steps: int | None, turn: int) -> bool:
    """Say whether a pair is a near-duplicate, or a neighbour of a sequence that lies the same way."""
    near = correlation >= _SAME or (correlation >= _ALIKE and deviations >= _ALIKE_DEVIATIONS)
    return near or (turn == 0 and steps is not None and steps <= STEPS and deviations >= _NEIGHBOUR_DEVIATIONS)


def is_near_duplicate(likeness: Likeness) -> bool:
    """Say whether the images are copies of one another; else they are neighbours of a sequence."""
    apart = likeness.steps is None or likeness.steps > STEPS
    return apart or likeness.turn > 0 or likeness.correlation >= _SAME
