"""Pictures of what a network was sure of, and of what it looked at.

Axes: H height, W width. Pictures are uint8 RGB arrays HW3; values are in [0, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segops.params.colours import rgb
from segops.pictures.images import Picture, picture

# Matplotlib's viridis (van der Walt and Smith 2015, CC0) at equal steps: evenly bright steps for any colour vision.
VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
_OPACITY = 0.65
_GAP_PX = 4


def heat(value_HW: npt.NDArray[Any]) -> Picture:
    """Draw values in the colours of VIRIDIS, dark for 0 and yellow for 1."""
    colours = np.array([rgb(colour) for colour in VIRIDIS], np.float64)
    at = np.clip(value_HW, 0, 1) * (len(colours) - 1)
    steps = np.arange(len(colours))
    return np.asarray(np.stack([np.interp(at, steps, channel) for channel in colours.T], axis=-1).round(), np.uint8)


def heat_over(image: npt.NDArray[Any], value_HW: npt.NDArray[Any]) -> Picture:
    """Draw the image in grey under the colours of the values."""
    grey_HW1 = picture(image).mean(axis=-1, keepdims=True)
    return np.asarray(((1 - _OPACITY) * grey_HW1 + _OPACITY * heat(value_HW)).round(), np.uint8)


def side_by_side(parts: list[tuple[Picture, Image.Resampling]], most_px: int) -> Picture:
    """Join pictures of one size in a row with white gaps, at native size or at most `most_px` high."""
    height, width = parts[0][0].shape[:2]
    scale = min(1.0, most_px / height)
    size = (max(1, round(width * scale)), round(height * scale))
    gap = np.full((size[1], _GAP_PX, 3), 255, np.uint8)
    row = [gap]
    for part, how in parts:
        row += [part if scale == 1 else np.asarray(Image.fromarray(part).resize(size, how), np.uint8), gap]
    return np.concatenate(row[1:-1], axis=1)
