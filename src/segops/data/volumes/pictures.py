"""Reads a folder of pictures, a slice each, as a volume: its first picture is the lowest.

Axes: D depth, H height, W width, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from segops.data.decoders.decode import decode
from segops.data.decoders.decoded import Decoded, Reading
from segops.data.volumes.grid import Volume, check_spacing, grid_of
from segops.data.volumes.tiff import tiff_spacing_mm
from segops.errors import UserError
from segops.params.file_rules import FileRules


def decode_pictures(
    files: Sequence[tuple[str, bytes]], reading: Reading, rules: FileRules
) -> tuple[Volume, tuple[str, ...]]:
    """Decode pictures as slices, and return what is to be noted of them; they don't say how far they are apart.

    Raises: UserError naming the picture that differs from the first in size or type, has alpha, can't be decoded, or
        says another distance of pixels than params.
    """
    first, *others = (decode(content, name, reading) for name, content in files)
    for (name, _), slice_ in zip(files, (first, *others), strict=True):
        if slice_.alpha:
            raise UserError(f"{name}: a slice with an alpha channel; save it without")
        if (slice_.array_HWC.shape, slice_.array_HWC.dtype) != (first.array_HWC.shape, first.array_HWC.dtype):
            ours, theirs = _words(slice_), _words(first)
            raise UserError(f"{name}: {ours}, but {files[0][0]} is {theirs}; a volume needs one size and type")
    if rules.spacing_mm is not None:
        _, height_mm, width_mm = tiff_spacing_mm(files[0][1])
        check_spacing((math.nan, height_mm, width_mm), rules.spacing_mm, files[0][0])
    array_DHWC = np.stack([slice_.array_HWC for slice_ in (first, *others)])
    notes = tuple(sorted({change for slice_ in (first, *others) for change in slice_.changes}))
    return Volume(array_DHWC, grid_of(array_DHWC.shape[:3], None)), notes


def _words(decoded: Decoded) -> str:
    """Word a slice's type, channels and size."""
    height, width, channels = decoded.array_HWC.shape
    return f"{decoded.array_HWC.dtype} of {height}x{width} pixels and {channels} channels"
