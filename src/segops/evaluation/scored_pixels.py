"""Leaves out of scores the pixels that belong to no known class, as if they weren't there.

Counts over pixels take the other pixels (`scored`). What looks at shapes takes masks with background in their place, in
truth and prediction (`blank`), so that an object is judged by what is seen of it.

Axes: H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segops.contracts.masks import IGNORED

Array = npt.NDArray[Any]


def scored(truth_HW: Array, *arrays: Array) -> tuple[Array, ...]:
    """Return the truth and other arrays (..., H, W), each with its pixels that aren't ignored in a row.

    Where none is ignored they come back as they are.
    """
    scored_HW = truth_HW != IGNORED
    if scored_HW.all():
        return truth_HW, *arrays
    return truth_HW[scored_HW], *(array[..., scored_HW] for array in arrays)


def blank(truth_HW: Array, *labels: Array) -> tuple[Array, ...]:
    """Return the truth and other masks or labels HW, each with 0 where the truth is ignored."""
    scored_HW = truth_HW != IGNORED
    if scored_HW.all():
        return truth_HW, *labels
    return tuple(np.where(scored_HW, array, 0) for array in (truth_HW, *labels))


def mostly_ignored(truth_HW: Array, objects_HW: Array) -> Array:
    """Return the numbers of the objects, labels HW, of which more than half lies in ignored pixels."""
    numbers, position = np.unique(objects_HW, return_inverse=True)
    pixels = np.bincount(position.ravel())
    ignored = np.bincount(position.ravel()[truth_HW.ravel() == IGNORED], minlength=len(numbers))
    return np.asarray(numbers[(2 * ignored > pixels) & (numbers > 0)])
