"""Large images in overlapping tiles, blended by a Gaussian window. Numpy alone; memory grows with the output only.

Axes: H height, W width, C channels, K output channels.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

_SIGMA = 1 / 8  # of the tile's side, as in nnU-Net (Isensee et al. 2021)
_SMALLEST_WEIGHT = 1e-3


def tile_starts(length_px: int, tile_px: int, overlap: float) -> list[int]:
    """First pixels of the tiles along an axis: evenly spread, the first at 0 and the last ending at the end.

    Args:
        overlap: least overlap of neighbours, as a share of the tile's side, in [0, 1).
    """
    if tile_px >= length_px:
        return [0]
    step_px = max(1, int(tile_px * (1 - overlap)))
    tiles = -(-(length_px - tile_px) // step_px) + 1
    return [round(i * (length_px - tile_px) / (tiles - 1)) for i in range(tiles)]


def gaussian_window(tile_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Weights HW of a tile's pixels: 1 in the middle, small and positive at the border."""
    lines = []
    for length_px in tile_hw:
        offset = (np.arange(length_px) - (length_px - 1) / 2) / (length_px * _SIGMA)
        lines.append(np.exp(-0.5 * offset**2))
    return np.asarray(np.maximum(np.outer(*lines), _SMALLEST_WEIGHT), np.float32)


def blend_tiles(
    image_HWC: npt.NDArray[Any],
    tile_hw: tuple[int, int],
    overlap: float,
    predict: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    """Predict tile by tile and average where tiles overlap; weights sum to 1 at each pixel.

    Args:
        tile_hw: the tile's size; an image that is smaller along an axis gives smaller tiles there.
        predict: from a tile HWC to its map KHW of the same height and width.

    Returns:
        The map KHW of the whole image.
    """
    height, width = image_HWC.shape[:2]
    tile_h, tile_w = min(tile_hw[0], height), min(tile_hw[1], width)
    window = gaussian_window((tile_h, tile_w))
    weights = np.zeros((height, width), np.float32)
    blended: npt.NDArray[np.float32] | None = None
    for top, left in product(tile_starts(height, tile_h, overlap), tile_starts(width, tile_w, overlap)):
        place = (slice(top, top + tile_h), slice(left, left + tile_w))
        map_KHW = predict(image_HWC[place])
        if blended is None:
            blended = np.zeros((len(map_KHW), height, width), np.float32)
        blended[:, *place] += map_KHW * window
        weights[place] += window
    assert blended is not None
    blended /= weights
    return blended
