"""Turns the values of mask files into class indices, and merges the masks of an image.

Axes: H height, W width. A mask is HW uint8 class indices; 0 is background.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from segops.data.decoders.decode import DEFAULT, decode
from segops.data.images import without_alpha
from segops.data.read_changes import ChangeLog
from segops.errors import UserError
from segops.params.file_rules import FileRules

StrayRule = Literal["error", "nearest", "background"]
_MAX_CLASSES = 256
_STRAY = -1


class MaskValues:
    """Maps file values to class indices, as params `ingest.mask_values` and `ingest.stray_values` say.

    A value that isn't listed is an error, or with `nearest` counts as the nearest listed value (the lower of two
    equally near), or with `background` as class 0.
    """

    def __init__(self, mask_values: dict[int, str], stray: StrayRule = "error") -> None:
        self.classes = list(dict.fromkeys(mask_values.values()))
        self.listed = sorted(mask_values)
        self.stray = stray
        bad = [value for value in self.listed if not 0 <= value <= np.iinfo(np.uint16).max]
        if bad:
            raise UserError(f"ingest.mask_values: no 8- or 16-bit mask holds {bad[0]}; list values in 0..65535")
        if len(self.classes) > _MAX_CLASSES:
            raise UserError(f"ingest.mask_values: {len(self.classes)} classes; at most {_MAX_CLASSES} are kept")
        self._index = np.full(np.iinfo(np.uint16).max + 1, _STRAY, dtype=np.int16)
        for value, name in mask_values.items():
            self._index[value] = self.classes.index(name)

    def apply(self, values_HW: np.ndarray, name: str, changes: ChangeLog) -> np.ndarray:
        """Map file values to class indices; what the stray rule changes goes to `changes`.

        Returns: HW uint8 class indices.
        Raises: UserError naming the file, the stray value and its pixel count.
        """
        known_HW = (values_HW >= 0) & (values_HW < len(self._index))
        mask_HW = np.where(known_HW, self._index[np.where(known_HW, values_HW, 0)], _STRAY)
        stray_HW = mask_HW == _STRAY
        if stray_HW.any():
            strays, counts = np.unique(values_HW[stray_HW], return_counts=True)
            if self.stray == "error":
                raise UserError(self._complaint(name, strays, counts))
            for value, pixels in zip(strays.tolist(), counts.tolist(), strict=True):
                taken = "background" if self.stray == "background" else "the nearest listed value"
                changes.add(f"stray mask value {value} taken as {taken}", name, pixels)
            mask_HW[stray_HW] = 0 if self.stray == "background" else self._nearest(values_HW[stray_HW])
        indices_HW: np.ndarray = mask_HW.astype(np.uint8)
        return indices_HW

    def _nearest(self, values: np.ndarray) -> np.ndarray:
        """Return the class index of the listed value that is nearest to each value; of two equally near, the lower."""
        listed = np.array(self.listed)
        upper = np.clip(np.searchsorted(listed, values), 1, len(listed) - 1)
        below, above = listed[upper - 1], listed[upper]
        nearest: np.ndarray = self._index[np.where(values - below <= above - values, below, above)]
        return nearest

    def _complaint(self, name: str, strays: np.ndarray, counts: np.ndarray) -> str:
        """Word the error about stray values: the most frequent of them, its pixels, and what to do."""
        worst = int(np.argmax(counts))
        others = f" (and {len(strays) - 1} other stray values)" if len(strays) > 1 else ""
        pixels = "1 pixel" if counts[worst] == 1 else f"{counts[worst]} pixels"
        return (
            f"{name}: value {strays[worst]} in {pixels}{others} is not in ingest.mask_values "
            f"({', '.join(map(str, self.listed))}); list it, or set ingest.stray_values to nearest or background"
        )


def read_mask(content: bytes, name: str, changes: ChangeLog, rules: FileRules = DEFAULT) -> np.ndarray:
    """Decode a mask file to its values.

    RGB with equal channels counts as grey, a constant alpha is dropped, a palette keeps its indices, 1-bit files and
    boolean arrays hold 0 and 255, and floats must be whole numbers.

    Returns: HW, integers of 8 to 64 bits.
    Raises: UserError naming the file.
    """
    array_HWC = without_alpha(decode(content, name, "values", rules), name, changes)
    if array_HWC.dtype == bool:
        array_HWC = array_HWC.astype(np.uint8) * np.uint8(255)
    if array_HWC.shape[-1] not in (1, 3):
        raise UserError(f"{name}: a mask of {array_HWC.shape[-1]} channels; save one that holds the class's value")
    if array_HWC.shape[-1] == 3 and (array_HWC != array_HWC[..., :1]).any():
        raise UserError(f"{name}: a coloured mask; save it with one channel that holds the class's value")
    values_HW = np.ascontiguousarray(array_HWC[..., 0])
    return _whole(values_HW, name) if values_HW.dtype.kind == "f" else values_HW


def _whole(values_HW: np.ndarray, name: str) -> np.ndarray:
    """Return floats that are whole numbers as int64. Raises UserError where one lies between, or is too large."""
    between_HW = values_HW != np.rint(values_HW)
    if between_HW.any():
        raise UserError(
            f"{name}: a mask of {values_HW.dtype.name} samples such as {values_HW[between_HW][0]:g}, no whole numbers; "
            "save it as integers"
        )
    if np.abs(values_HW).max(initial=0) >= 2**53:
        raise UserError(f"{name}: a mask with values beyond 2**53; save it as integers")
    return values_HW.astype(np.int64)


def merge_masks(masks: Iterable[tuple[str, np.ndarray]], image: str) -> tuple[np.ndarray, int]:
    """Merge masks of single objects into a mask with all of them.

    Args:
        masks: name and HW uint8 class indices of each; the higher class wins where they overlap.
        image: the image's name for messages.

    Returns: HW uint8 class indices, and the number of masks that aren't empty.
    Raises: UserError where the masks' sizes differ.
    """
    merged_HW: np.ndarray | None = None
    instances = 0
    for name, mask_HW in masks:
        if merged_HW is None:
            merged_HW = np.zeros_like(mask_HW)
        if mask_HW.shape != merged_HW.shape:
            raise UserError(
                f"{name}: {_size(mask_HW)} pixels, but the masks of {image} before it have {_size(merged_HW)}; "
                "make them one size"
            )
        instances += bool(mask_HW.any())
        np.maximum(merged_HW, mask_HW, out=merged_HW)
    assert merged_HW is not None, "a layout gives every image a mask"
    return merged_HW, instances


def _size(array_HW: np.ndarray) -> str:
    return f"{array_HW.shape[0]}x{array_HW.shape[1]}"
