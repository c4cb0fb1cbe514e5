"""Changes an image's contrast before a network sees it: clipping, denoising, CLAHE; `speckle` has more filters.

Pure torch; exportable with dynamic batch, height and width, so nothing here asks how large an image is.

Axes: B batch, C channels, H height, W width; N pixels, R percentiles, t tile rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_BINS = 256
_TRUNCATE = 4.0  # where scipy's gaussian_filter cuts its kernel, in sigmas
_SMALLEST_SPAN = 1e-12


def clip_to_unit(image_BCHW: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Spread low..high to 0..1 and cut off what lies beyond; all is 0 where high isn't above low.

    Args:
        low, high: broadcast against image_BCHW.
    """
    span = high - low
    return ((image_BCHW - low) / span.clamp_min(_SMALLEST_SPAN)).clamp(0, 1) * (span > 0)


def percentiles(image_BCHW: Tensor, wanted: Sequence[float]) -> list[Tensor]:
    """Compute percentiles of each image and channel, BC11 each; linear between pixels, as numpy's.

    torch.quantile refuses more than 16 million pixels.
    """
    sorted_BCN = image_BCHW.flatten(2).sort(dim=2).values
    last = torch.full((), sorted_BCN.shape[2] - 1, dtype=torch.float32, device=image_BCHW.device).double()
    values = []
    for percent in wanted:
        position = last * (percent / 100)
        below = position.floor()
        lower_BC1, upper_BC1 = (sorted_BCN.index_select(2, index.long()[None]) for index in (below, position.ceil()))
        values.append((lower_BC1 + (upper_BC1 - lower_BC1) * (position - below).to(image_BCHW.dtype))[..., None])
    return values


def denoise(image_BCHW: Tensor, sigma_px: float) -> Tensor:
    """Filter with a Gaussian, the border repeated: scipy's `gaussian_filter(.., mode="nearest")`."""
    radius = int(_TRUNCATE * sigma_px + 0.5)
    if radius == 0:
        return image_BCHW
    weights = [math.exp(-0.5 * (offset / sigma_px) ** 2) for offset in range(-radius, radius + 1)]
    kernel = image_BCHW.new_tensor([weight / sum(weights) for weight in weights])
    channels = image_BCHW.shape[1]
    down = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    across = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    rows_BCHW = F.conv2d(F.pad(image_BCHW, (0, 0, radius, radius), mode="replicate"), down, groups=channels)
    return F.conv2d(F.pad(rows_BCHW, (radius, radius, 0, 0), mode="replicate"), across, groups=channels)


def clahe(image_BCHW: Tensor, clip_limit: float, tiles: tuple[int, int]) -> Tensor:
    """Equalize each channel of images in [0, 1] by contrast-limited adaptive histogram equalization.

    After Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994, as OpenCV has it: a
    histogram of 256 bins by tile, cut at `clip_limit` times the mean bin, the excess dealt out; its running sum maps
    grey levels, and between tile centres the maps of the four nearest tiles are blended bilinearly. Where tiles don't
    divide the image OpenCV pads it, and here tiles differ by a pixel. Levels between two bins are mapped linearly, so
    that 16 bits stay.
    """
    down, across = tiles
    batch, channels, height, width = image_BCHW.shape
    level_BCHW = image_BCHW.clamp(0, 1) * (_BINS - 1)
    row_H, column_W = _tile_of(height, down, image_BCHW), _tile_of(width, across, image_BCHW)
    plane_BC11 = torch.arange(batch * channels, device=image_BCHW.device).view(batch, channels, 1, 1)
    tile_BCHW = (plane_BC11 * down + row_H[:, None]) * across + column_W
    table = _tables(level_BCHW, tile_BCHW, batch * channels * down * across, clip_limit)
    row_below_H, row_share_H = _between(height, down, image_BCHW)
    column_left_W, column_share_W = _between(width, across, image_BCHW)
    mapped = torch.zeros_like(image_BCHW)
    for below in (0, 1):
        near_H = (row_below_H + below).clamp(0, down - 1)
        weight_H = row_share_H if below else 1 - row_share_H
        for right in (0, 1):
            near_W = (column_left_W + right).clamp(0, across - 1)
            weight_W = column_share_W if right else 1 - column_share_W
            near_BCHW = (plane_BC11 * down + near_H[:, None]) * across + near_W
            mapped = mapped + _looked_up(table, near_BCHW, level_BCHW) * (weight_H[:, None] * weight_W)
    return mapped


def _tables(level_BCHW: Tensor, tile_BCHW: Tensor, tiles: int, clip_limit: float) -> Tensor:
    """Return the map of each tile from bins to [0, 1], flat; the identity for a tile without a pixel."""
    bins = tile_BCHW * _BINS + level_BCHW.round().long()
    counts = torch.zeros(tiles * _BINS, device=level_BCHW.device)
    counts = counts.scatter_add(0, bins.flatten(), torch.ones_like(level_BCHW).flatten()).view(tiles, _BINS)
    pixels = counts.sum(dim=1, keepdim=True)
    limited = counts.minimum((clip_limit * pixels / _BINS).floor().clamp_min(1))
    running = (limited + _dealt_out(pixels - limited.sum(dim=1, keepdim=True))).cumsum(dim=1) / pixels.clamp_min(1)
    identity = torch.linspace(0, 1, _BINS, device=level_BCHW.device)
    return torch.where(pixels > 0, running.clamp_max(1), identity).flatten()


def _dealt_out(excess_T1: Tensor) -> Tensor:
    """Deal pixels cut off a tile's histogram out to its bins: equal whole numbers, the rest in even steps."""
    each_T1 = (excess_T1 / _BINS).floor()
    rest_T1 = excess_T1 - each_T1 * _BINS
    step_T1 = (_BINS / rest_T1.clamp_min(1)).floor()
    bins = torch.arange(_BINS, dtype=excess_T1.dtype, device=excess_T1.device)
    return each_T1 + ((bins % step_T1 == 0) & (bins / step_T1 < rest_T1))


def _looked_up(table: Tensor, tile_BCHW: Tensor, level_BCHW: Tensor) -> Tensor:
    """Map each pixel's level by a tile's table, linearly between bins."""
    below = level_BCHW.floor().clamp_max(_BINS - 2)
    entry = tile_BCHW * _BINS + below.long()
    lower, upper = (table.index_select(0, (entry + step).flatten()).view(level_BCHW.shape) for step in (0, 1))
    return lower + (upper - lower) * (level_BCHW - below)


def _tile_of(length_px: int, tiles: int, like: Tensor) -> Tensor:
    """Return the tile of each pixel of an axis."""
    return torch.arange(length_px, device=like.device) * tiles // length_px


def _between(length_px: int, tiles: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first of the two tile centres (from -1) that each pixel lies between, and the second's share."""
    position = (torch.arange(length_px, dtype=like.dtype, device=like.device) + 0.5) * tiles / length_px - 0.5
    first = position.floor()
    return first.long(), position - first
