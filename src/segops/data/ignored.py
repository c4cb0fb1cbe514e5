"""Gathers the pixels of an example that belong to no known class, while its masks are read as if they were background.

Axes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segops.contracts.masks import IGNORED
from segops.data.objects import numbered


class IgnoredPixels:
    """The pixels of one example to ignore: those of some file values, and of annotated regions."""

    def __init__(self, values: Sequence[int]) -> None:
        self._values = values
        self._regions: list[np.ndarray] = []
        self._crowds: list[np.ndarray] = []

    def take(self, values_HW: np.ndarray, background: int) -> np.ndarray:
        """Note the pixels of values to ignore; return the file's values with `background` in their place."""
        limits = np.iinfo(values_HW.dtype)
        values = [value for value in self._values if limits.min <= value <= limits.max]
        ignored_HW = np.isin(values_HW, np.array(values, values_HW.dtype))
        if not ignored_HW.any():
            return values_HW
        self.add(ignored_HW)
        wide_HW = values_HW if values_HW.dtype == np.uint64 else values_HW.astype(np.int64)  # either holds any class
        return np.where(ignored_HW, wide_HW.dtype.type(background), wide_HW)

    def add(self, region_HW: np.ndarray, *, crowd: bool = False) -> None:
        """Note a region, HW bool; a crowd's pixels count as ignored only where no object is told apart."""
        (self._crowds if crowd else self._regions).append(region_HW)

    def lay(self, mask_HW: np.ndarray, objects_HW: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the mask with IGNORED where pixels were noted, and its objects, numbered anew, without them."""
        regions = self._regions + [crowd_HW & (mask_HW == 0) for crowd_HW in self._crowds]
        if not regions:
            return mask_HW, objects_HW
        ignored_HW = np.logical_or.reduce(regions)
        laid_HW = np.where(ignored_HW, np.uint8(IGNORED), mask_HW)
        return laid_HW, None if objects_HW is None else numbered(np.where(ignored_HW, 0, objects_HW))
