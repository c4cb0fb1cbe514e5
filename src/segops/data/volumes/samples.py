"""Decides which sample type keeps a volume's values: in units of their own, such as HU, always the same for a type.

Axes: D depth, H height, W width, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segops.data.images import kept_samples
from segops.data.read_changes import ChangeLog

Array = npt.NDArray[Any]
_INT16 = np.iinfo(np.int16)


def scaled(stored: Array, slope: float, intercept: float, *, bits: int | None = None) -> Array:
    """Return stored samples times a slope plus an intercept: int16 where whole numbers of their type fit, else float32.

    Args:
        stored: integers or floats.
        slope: NaN or 0: none, as NIfTI has it.
        bits: of integers that use fewer bits than their type has.
    """
    if not np.isfinite(slope) or slope == 0 or (slope, intercept) == (1.0, 0.0):
        return stored
    values = stored.astype(np.float64)
    values *= slope
    values += intercept
    whole = stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer()
    ends = [end * slope + intercept for end in _ends(stored.dtype, bits)] if whole else [np.inf]
    return values.astype(np.int16 if min(ends) >= _INT16.min and max(ends) <= _INT16.max else np.float32)


def _ends(dtype: np.dtype[Any], bits: int | None) -> tuple[int, int]:
    """Return the smallest and the largest value of integers that use so many bits."""
    bits = bits or 8 * dtype.itemsize
    return (0, 2**bits - 1) if dtype.kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def kept_values(array_DHWC: Array, name: str, changes: ChangeLog | None) -> Array:
    """Return a volume's samples as int16 where its type fits in, else as float32; values keep their units.

    Raises: UserError naming the file, for integers that float32 doesn't hold exactly.
    """
    if array_DHWC.dtype in (np.int16, np.int8, np.uint8):
        return array_DHWC.astype(np.int16, copy=False)
    if array_DHWC.dtype == np.uint16:
        return array_DHWC.astype(np.float32)
    return kept_samples(array_DHWC, name, changes)
