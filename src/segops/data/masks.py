"""Turns the values of mask files into class indices.

Axes: H height, W width. A mask is HW uint8 class indices; 0 is background. `data.ignored` adds what is no class.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from segops.contracts.masks import MOST_CLASSES
from segops.data.decoders.decode import DEFAULT, decode
from segops.data.decoders.decoded import Decoded
from segops.data.images import without_alpha
from segops.data.read_changes import ChangeLog
from segops.errors import UserError
from segops.params.file_rules import FileRules
from segops.progress import counted

StrayRule = Literal["error", "nearest", "background"]
_STRAY = -1
_LARGEST = np.iinfo(np.uint16).max  # value that params can list
_LARGEST_COLOUR = 2**24 - 1
_SHOWN_COLOURS = 5
_NEARER = 3  # times as near as other classes' values is noise: within a quarter of the way between two
_FEWEST_IDS, _WHOLE_SHARE, _SPECK_PX = 3, 0.75, 9  # what tells ids and classes from noise
_UNLISTED = "list it there or in ingest.ignore_values, or set ingest.stray_values to nearest or background"
_FAR = (
    "it is too far from them for ingest.stray_values: nearest; list it, save the mask without smoothing or lossy "
    "compression, or set ingest.stray_values to background"
)


class MaskValues:
    """Maps file values to class indices, as params `ingest.mask_values` and `ingest.stray_values` say.

    A value that isn't listed is an error, or with `background` counts as class 0, or with `nearest` as the nearest
    listed value (the lower of two) if that is three times as near as any of another class, which is a quarter of the
    way: so far noise goes. `nearest` refuses others, and values that look like ids of objects or numbers of classes.
    """

    def __init__(self, mask_values: dict[int, str], stray: StrayRule = "error", *, by_colour: bool = False) -> None:
        self.classes = list(dict.fromkeys(mask_values.values()))
        self.listed = sorted(mask_values)
        self.stray, self.by_colour = stray, by_colour
        self._largest = _LARGEST_COLOUR if by_colour else _LARGEST
        bad = [value for value in self.listed if not 0 <= value <= self._largest]
        if bad:
            raise UserError(f"ingest.mask_values: no 8- or 16-bit mask holds {bad[0]}; list values in 0..65535")
        if len(self.classes) > MOST_CLASSES:
            raise UserError(f"ingest.mask_values: {len(self.classes)} classes; at most {MOST_CLASSES} are kept")
        self._index = np.full(self._largest + 1, _STRAY, dtype=np.int16)
        for value, name in mask_values.items():
            self._index[value] = self.classes.index(name)

    def apply(self, values_HW: np.ndarray, name: str, changes: ChangeLog) -> np.ndarray:
        """Map file values, integers of any width, to class indices; what the stray rule changes goes to `changes`.

        Returns: HW uint8 class indices.
        Raises: UserError naming the file, the stray value and its pixel count, and what to write instead.
        """
        mask_HW = self._index[np.clip(values_HW, 0, self._largest)]
        if values_HW.dtype.itemsize > 2:
            mask_HW[(values_HW < 0) | (values_HW > self._largest)] = _STRAY
        stray_HW = mask_HW == _STRAY
        if stray_HW.any():
            strays, position, counts = np.unique(values_HW[stray_HW], return_inverse=True, return_counts=True)
            indices = self._take(values_HW, strays, counts, name)
            taken = "background" if self.stray == "background" else "the nearest listed value"
            for value, pixels in zip(strays.tolist(), counts.tolist(), strict=True):
                changes.add(f"stray mask value {self._word(value)} taken as {taken}", name, pixels)
            mask_HW[stray_HW] = indices[position]
        indices_HW: np.ndarray = mask_HW.astype(np.uint8)
        return indices_HW

    def _take(self, values_HW: np.ndarray, strays: np.ndarray, counts: np.ndarray, name: str) -> np.ndarray:
        """Return the class index that the stray rule gives each stray value. Raises UserError where it gives none."""
        if self.stray == "background":
            return np.zeros(len(strays), np.int16)
        listed = np.array(self.listed)
        class_of: np.ndarray = self._index[listed]
        distance_SL = self._distance(strays.astype(np.int64)[:, None], listed)
        nearest_S = distance_SL.argmin(axis=1)  # the lower of two
        of_others_SL = np.where(class_of != class_of[nearest_S][:, None], distance_SL, np.iinfo(np.int64).max)
        far_S = _NEARER * distance_SL.min(axis=1) > of_others_SL.min(axis=1)
        advice = self._meaning(values_HW)
        if self.stray == "nearest" and not advice:
            if not far_S.any():
                taken_S: np.ndarray = class_of[nearest_S]
                return taken_S
            counts, advice = np.where(far_S, counts, 0), _FAR
        worst = int(np.argmax(counts))
        others = f" (and {len(strays) - 1} other stray values)" if len(strays) > 1 else ""
        pixels = "1 pixel" if counts[worst] == 1 else f"{counts[worst]} pixels"
        raise UserError(
            f"{name}: value {self._word(strays[worst])} in {pixels}{others} is not in ingest.mask_values "
            f"({', '.join(map(self._word, self.listed))}); {advice or _UNLISTED}"
        )

    def _distance(self, strays_S1: np.ndarray, listed_L: np.ndarray) -> np.ndarray:
        """Return how far each stray value is from each listed one; of colours the largest difference of a channel."""
        if not self.by_colour:
            return np.asarray(np.abs(strays_S1 - listed_L))
        channels = [np.abs((strays_S1 >> shift & 255) - (listed_L >> shift & 255)) for shift in (16, 8, 0)]
        return np.asarray(np.maximum.reduce(channels))

    def _word(self, value: int) -> str:
        """Return a value as params write it."""
        return f"#{value:06x}" if self.by_colour else str(value)

    def _meaning(self, values_HW: np.ndarray) -> str:
        """Say what the file's values look like and what to write for them; nothing where some look like noise."""
        if self.by_colour:
            return ""
        values = np.unique(values_HW).tolist()
        if values in ([0, 1], [1, 2]):
            written = ", ".join(f'"{value}": {name}' for value, name in zip(values, self.classes, strict=False))
            return f"the mask holds {values[0]} and {values[1]} alone: write ingest.mask_values: {{{written}}}"
        pieces = _pieces(values_HW)
        if pieces.usual_px < _SPECK_PX or len(values) < _FEWEST_IDS:
            return ""
        span = f"its values {values[values[0] == 0]} to {values[-1]}"
        if pieces.values >= _FEWEST_IDS and pieces.whole_values >= _WHOLE_SHARE * pieces.values:
            return f"{span} look like ids of objects: write ingest.mask_kind: objects, or list them if they are classes"
        if values == list(range(values[0], values[0] + len(values))) and values[0] in (0, 1):
            return f"{span} look like numbers of classes: list them in ingest.mask_values"
        return ""


class _Pieces(NamedTuple):
    """Describes the 8-connected pieces of equal value above 0: how many values, those in one piece, a pixel's piece."""

    values: int
    whole_values: int
    usual_px: float  # size of the piece that a pixel is in, mean over pixels


def _pieces(values_HW: np.ndarray) -> _Pieces:
    """Find the pieces of a mask's values."""
    from skimage.measure import label

    pieces_HW, pieces = label(values_HW, background=0, connectivity=2, return_num=True)
    if not pieces:
        return _Pieces(0, 0, 0.0)
    sizes = np.bincount(pieces_HW.ravel())[1:].astype(np.float64)
    value_of = np.zeros(pieces + 1, values_HW.dtype)
    value_of[pieces_HW] = values_HW
    _, pieces_of_value = np.unique(value_of[1:], return_counts=True)
    usual_px = float((sizes**2).sum() / sizes.sum())
    return _Pieces(len(pieces_of_value), int(np.count_nonzero(pieces_of_value == 1)), usual_px)


def read_mask(
    content: bytes,
    name: str,
    changes: ChangeLog,
    rules: FileRules = DEFAULT,
    *,
    channel: int | None = None,
    by_colour: bool | None = False,
    tolerance: float = 0.0,
) -> np.ndarray:
    """Decode a mask file to its values.

    RGB with equal channels counts as grey, a constant alpha is dropped, a palette keeps its indices, 1-bit files and
    boolean arrays hold 0 and 255, and floats must be whole numbers.

    Args:
        channel: that holds the mask, counted from 0; None: the file has one.
        by_colour: give red, green and blue as one number of 24 bits; None: where they differ.
        tolerance: how far floats may lie from whole numbers.

    Returns: HW, integers of 8 to 64 bits.
    Raises: UserError naming the file.
    """
    decoded = decode(content, name, "colours" if by_colour else "values", rules)
    return mask_values(decoded, name, changes, channel=channel, by_colour=by_colour, tolerance=tolerance)


def mask_values(
    decoded: Decoded,
    name: str,
    changes: ChangeLog,
    *,
    channel: int | None = None,
    by_colour: bool | None = False,
    tolerance: float = 0.0,
) -> np.ndarray:
    """Return the values of a decoded mask, as `read_mask` says."""
    if channel is None:
        array_HWC = without_alpha(decoded, name, changes)
    elif channel < decoded.array_HWC.shape[-1]:
        array_HWC = decoded.array_HWC[..., channel : channel + 1]
    else:
        raise UserError(
            f"{name}: {counted(decoded.array_HWC.shape[-1], 'channel')}, but ingest.mask_channel is {channel}, counted "
            "from 0; correct it"
        )
    if array_HWC.dtype == bool:
        array_HWC = array_HWC.astype(np.uint8) * np.uint8(255)
    if array_HWC.shape[-1] not in (1, 3):
        raise UserError(
            f"{name}: a mask of {array_HWC.shape[-1]} channels; say in ingest.mask_channel which holds it, from 0 on"
        )
    coloured = array_HWC.shape[-1] == 3 and bool((array_HWC != array_HWC[..., :1]).any())
    if by_colour or (coloured and by_colour is None):
        return _colour_codes(array_HWC, name)
    if coloured:
        raise UserError(
            f"{name}: a coloured mask, with {_shown_colours(array_HWC)}; list colours in ingest.mask_values, such as "
            '"#ff0000": artery, or say in ingest.mask_channel which channel holds it'
        )
    values_HW = np.ascontiguousarray(array_HWC[..., 0])
    return whole_values(values_HW, name, changes, tolerance)


def _colour_codes(array_HWC: np.ndarray, name: str) -> np.ndarray:
    """Return red, green and blue of 8 bits as one number, HW uint32; grey has three equal ones."""
    if array_HWC.dtype != np.uint8:
        raise UserError(f"{name}: a coloured mask of {array_HWC.dtype.name} samples; save it with 8 bits per channel")
    red_HW, green_HW, blue_HW = np.moveaxis(np.broadcast_to(array_HWC, (*array_HWC.shape[:2], 3)), -1, 0)
    codes_HW: np.ndarray = red_HW.astype(np.uint32) << 16 | green_HW.astype(np.uint32) << 8 | blue_HW
    return codes_HW


def _shown_colours(array_HWC: np.ndarray) -> str:
    """Name the commonest colours of a mask."""
    colours, counts = np.unique(array_HWC.reshape(-1, 3), axis=0, return_counts=True)
    commonest = [colours[index] for index in np.argsort(-counts, kind="stable")[:_SHOWN_COLOURS]]
    more = ", .." if len(colours) > _SHOWN_COLOURS else ""
    eight_bits = array_HWC.dtype == np.uint8
    named = [f"#{r:02x}{g:02x}{b:02x}" if eight_bits else f"({r}, {g}, {b})" for r, g, b in commonest]
    return ", ".join(named) + more


def whole_values(values_HW: np.ndarray, name: str, changes: ChangeLog, tolerance: float = 0.0) -> np.ndarray:
    """Return a mask's values as integers; floats become int64.

    Raises: UserError where a float lies farther from a whole number than the tolerance, or is too large.
    """
    if values_HW.dtype.kind != "f":
        return values_HW
    nearest_HW = np.rint(values_HW)
    off_HW = values_HW != nearest_HW
    if off_HW.any():
        beyond_HW = np.abs(values_HW - nearest_HW) > tolerance
        if beyond_HW.any():
            raise UserError(
                f"{name}: a mask of {values_HW.dtype.name} samples such as {values_HW[beyond_HW][0]!s}, no whole "
                "numbers; save it as integers, or say in ingest.mask_tolerance how far they may lie off"
            )
        changes.add("mask values rounded to whole numbers", name, int(np.count_nonzero(off_HW)))
    if np.abs(values_HW).max(initial=0) >= 2**53:
        raise UserError(f"{name}: a mask with values beyond 2**53; save it as integers")
    whole_HW: np.ndarray = nearest_HW.astype(np.int64)
    return whole_HW
