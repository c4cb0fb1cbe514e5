"""Finds masks that all lie a few pixels beside their objects, and masks whose foreground and background are swapped.

Axes: H height, W width, D places of a mask: 2 * REACH + 1 in each direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.contracts.masks import is_foreground
from segops.data.mask_fit import border, edges, spread

Image = npt.NDArray[Any]

Agreement = npt.NDArray[np.float64]

REACH = 24  # how far a mask is moved, pixels
_PART_PX = 512  # side of the part that is looked at

_LEAST_PX = 3.0  # a border can be drawn a pixel or two beside an edge by habit
_P = 1e-4
_MOSTLY = 0.75  # of the images, for which the other place is better
_FEWEST = 8  # images, half of which choose the place that the other half tests
_INSIDE = 0.5  # share of the background that lies enclosed in the foreground, in a swapped mask
_FRAME = 0.5  # share of the image's edge that a swapped mask's foreground holds


class Offset(NamedTuple):
    """How far masks lie to the right of their objects and below them, in pixels."""

    right_px: int
    down_px: int

    def words(self) -> str:
        """Word the offset: '5 px right, 3 px up'."""
        parts = [(self.right_px, "right", "left"), (self.down_px, "down", "up")]
        named = [f"{abs(px)} px {ahead if px > 0 else back}" for px, ahead, back in parts if px]
        return ", ".join(named) or "none"


def places(image_HWC: Image, mask_HW: Image) -> Agreement | None:
    """Correlate an image's edges with its mask's borders, moved by up to REACH in each direction.

    Of a large image the part around a border in the middle counts.

    Returns: at `[REACH + y, REACH + x]` the correlation with the mask moved y down and x to the right; None for a mask
        without borders.
    """
    from scipy.fft import irfft2, next_fast_len, rfft2

    border_HW = border(mask_HW)
    rows, columns = np.nonzero(border_HW)
    if not len(rows):
        return None
    nearest = np.hypot(rows - np.median(rows), columns - np.median(columns)).argmin()
    part = tuple(
        slice(max(0, at - _PART_PX // 2), at + _PART_PX // 2) for at in (int(rows[nearest]), int(columns[nearest]))
    )
    image_HW = spread(np.asarray(image_HWC[part].mean(axis=-1), np.float32))
    edges_HW, borders_HW = np.sqrt(edges(image_HW)), border_HW[part].astype(np.float32)
    edges_HW, borders_HW = edges_HW - edges_HW.mean(), borders_HW - borders_HW.mean()
    size = [next_fast_len(side + REACH, real=True) for side in edges_HW.shape]
    moved = irfft2(rfft2(edges_HW, size) * np.conj(rfft2(borders_HW, size)), size)
    steps = np.arange(-REACH, REACH + 1)
    length = float(np.linalg.norm(edges_HW) * np.linalg.norm(borders_HW))
    return np.asarray(moved[np.ix_(steps, steps)] / max(length, 1e-9), np.float64)


def offset(agreement_NDD: Sequence[Agreement]) -> Offset | None:
    """Return how far the masks of images lie off, if they do so alike and beyond doubt; None: they don't.

    One half of the images chooses the place, the other half tests it against where the masks are.
    """
    from scipy.stats import ttest_1samp

    if len(agreement_NDD) < _FEWEST:
        return None
    chosen_DD = np.mean(agreement_NDD[::2], axis=0)
    down, right = (int(at) - REACH for at in np.unravel_index(int(chosen_DD.argmax()), chosen_DD.shape))
    if np.hypot(down, right) < _LEAST_PX:
        return None
    tested_N = np.array([DD[REACH + down, REACH + right] - DD[REACH, REACH] for DD in agreement_NDD[1::2]])
    if (tested_N > 0).mean() < _MOSTLY or ttest_1samp(tested_N, 0, alternative="greater").pvalue >= _P:
        return None
    return Offset(-right, -down)


def looks_swapped(mask_HW: Image) -> bool:
    """Say whether a mask looks as if foreground and background were swapped.

    Objects lie in a background that reaches the image's edge. Swapped, the foreground holds most of the image and of
    its edge, and most of the background lies in spots that it encloses.
    """
    from scipy.ndimage import label

    foreground_HW, background_HW = is_foreground(mask_HW), mask_HW == 0
    frame = np.concatenate([foreground_HW[0], foreground_HW[-1], foreground_HW[:, 0], foreground_HW[:, -1]])
    if foreground_HW.mean() <= 0.5 or foreground_HW.all() or frame.mean() <= _FRAME:
        return False
    labels_HW, _ = label(~foreground_HW)
    outer = np.unique(np.concatenate([labels_HW[0], labels_HW[-1], labels_HW[:, 0], labels_HW[:, -1]]))
    enclosed = background_HW & ~np.isin(labels_HW, outer[outer > 0])
    return bool(enclosed.sum() > _INSIDE * background_HW.sum())
