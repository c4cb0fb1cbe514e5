"""Changes an image's contrast before a network sees it: clipping, denoising, CLAHE; `speckle` has more filters.

Pure torch. `clip_to_unit`, `percentiles`, `denoise` and `clahe` take whole images and are exportable with dynamic
batch, height and width, so they don't ask how large an image is; what ends in `_rows` does the same strip by strip.

Axes: B batch, C channels, H height, W width; N pixels, R percentiles, T tiles; h rows of a strip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from segops.inference.rows import Rows

_BINS = 256
_HALF = 2**15
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
    last = torch.full((), sorted_BCN.shape[2] - 1, dtype=torch.int64, device=image_BCHW.device).double()
    values = []
    for percent in wanted:
        position = last * (percent / 100)
        below = position.floor()
        lower_BC1, upper_BC1 = (sorted_BCN.index_select(2, index.long()[None]) for index in (below, position.ceil()))
        values.append((lower_BC1 + (upper_BC1 - lower_BC1) * (position - below).to(image_BCHW.dtype))[..., None])
    return values


def percentiles_by_rows(image: Rows, wanted: Sequence[float]) -> list[Tensor]:
    """Compute what `percentiles` does, in two passes over strips: the high halves of the pixels' 32 bits, then the low.

    The order of float32 numbers is that of their bits, once those of negative ones are turned.
    """
    positions = [(image.height * image.width - 1) * (percent / 100) for percent in wanted]
    ranks = torch.tensor([[math.floor(position), math.ceil(position)] for position in positions]).flatten()
    high_PR, rest_PR = _placed(sum(_histogram(key_PN >> 16) for key_PN in _keys(image)), ranks)
    counts = sum(
        torch.stack([_histogram(key_PN & 0xFFFF, key_PN >> 16 == high_PR[:, [rank]]) for rank in range(len(ranks))])
        for key_PN in _keys(image)
    )
    assert isinstance(counts, Tensor), "an image has rows"
    low_PR = torch.cat([_placed(of_rank, rest_PR[:, [rank]])[0] for rank, of_rank in enumerate(counts)], dim=1)
    value_PR = _turned((high_PR << 16 | low_PR).int()).view(torch.float32)
    batch, channels = next(image.strips()).shape[:2]
    value_BCR2 = value_PR.view(batch, channels, len(wanted), 2)
    return [
        (lower_BC + (upper_BC - lower_BC) * (position - math.floor(position)))[..., None, None]
        for (lower_BC, upper_BC), position in zip(value_BCR2.permute(2, 3, 0, 1), positions, strict=True)
    ]


def _keys(image: Rows) -> Iterator[Tensor]:
    """Yield the pixels of each plane of an image as int64 of the same order, strip by strip."""
    return (_turned(strip.flatten(2).flatten(0, 1).contiguous().view(torch.int32)).long() for strip in image.strips())


def _turned(bits: Tensor) -> Tensor:
    """Turn the bits of negative floats, int32, so that they order as the floats do; a second time is the way back."""
    return bits ^ (bits >> 31 & 0x7FFFFFFF)


def _histogram(half_PN: Tensor, counted_PN: Tensor | None = None) -> Tensor:
    """Count halves of keys by plane, from -2**15 or from 0 on: counts of 2**17 values."""
    planes = len(half_PN)
    bins = half_PN + _HALF + torch.arange(planes, device=half_PN.device)[:, None] * 4 * _HALF
    picked = bins.flatten() if counted_PN is None else bins[counted_PN]
    return torch.bincount(picked, minlength=planes * 4 * _HALF).view(planes, 4 * _HALF)


def _placed(counts_PV: Tensor | int, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Find the halves of the keys of given ranks, and their ranks among the keys with that half: P R each."""
    assert isinstance(counts_PV, Tensor), "an image has rows"
    running_PV = counts_PV.cumsum(dim=1)
    rank_PR = rank.to(running_PV.device).expand(len(running_PV), -1).contiguous()
    bin_PR = torch.searchsorted(running_PV, rank_PR, right=True)
    return bin_PR - _HALF, rank_PR - (running_PV - counts_PV).gather(1, bin_PR)


def denoised_rows(image: Rows, sigma_px: float) -> Rows:
    """Filter as `denoise` an image that is read by rows."""
    radius = int(_TRUNCATE * sigma_px + 0.5)

    def read(first: int, last: int) -> Tensor:
        begin, end = max(0, first - radius), min(image.height, last + radius)
        return denoise(image.read(begin, end), sigma_px)[:, :, first - begin : last - begin]

    return replace(image, read=read)


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
    height, width = image_BCHW.shape[2:]
    places = _places(height, width, tiles, image_BCHW)
    table = _tables(_counted(image_BCHW, places, tiles), clip_limit)
    return _mapped(image_BCHW, table, places, tiles)


def clahe_by_rows(image: Rows, clip_limit: float, tiles: tuple[int, int]) -> Rows:
    """Equalize as `clahe` an image that is read by rows, after a pass over it that counts levels by tile."""
    counts_TV, places = torch.zeros(()), None
    for (first, last), strip_BChW in zip(image.spans(), image.strips(), strict=True):
        places = places or _places(image.height, image.width, tiles, strip_BChW)
        counts_TV = counts_TV.to(strip_BChW.device) + _counted(strip_BChW, places.rows(first, last), tiles)
    assert places is not None, "an image has rows"
    table, everywhere = _tables(counts_TV, clip_limit), places

    def read(first: int, last: int) -> Tensor:
        return _mapped(image.read(first, last), table, everywhere.rows(first, last), tiles)

    return replace(image, read=read)


class _Places(NamedTuple):
    """Where the pixels of each axis lie among tiles.

    Attributes:
        row_H, column_W: the tile.
        above_H, left_W: the first of the two tile centres around it, from -1.
        down_H, right_W: the share of the second.
    """

    row_H: Tensor
    above_H: Tensor
    down_H: Tensor
    column_W: Tensor
    left_W: Tensor
    right_W: Tensor

    def rows(self, first: int, last: int) -> _Places:
        """Return those of some rows."""
        row_h, above_h, down_h = (axis[first:last] for axis in self[:3])
        return self._replace(row_H=row_h, above_H=above_h, down_H=down_h)


def _places(height: int, width: int, tiles: tuple[int, int], like: Tensor) -> _Places:
    """Place the pixels of an image among its tiles."""
    down, across = tiles
    of_rows = (_tile_of(height, down, like), *_between(height, down, like))
    return _Places(*of_rows, _tile_of(width, across, like), *_between(width, across, like))


def _planes(image_BChW: Tensor) -> Tensor:
    """Number the channels of a batch, BC11."""
    batch, channels = image_BChW.shape[:2]
    return torch.arange(batch * channels, device=image_BChW.device).view(batch, channels, 1, 1)


def _levels(image_BChW: Tensor) -> Tensor:
    """Return grey levels in bins."""
    return image_BChW.clamp(0, 1) * (_BINS - 1)


def _counted(image_BChW: Tensor, places: _Places, tiles: tuple[int, int]) -> Tensor:
    """Count the pixels of each bin by tile of each channel: float32 T x 256."""
    down, across = tiles
    tile_BChW = (_planes(image_BChW) * down + places.row_H[:, None]) * across + places.column_W
    bins = tile_BChW * _BINS + _levels(image_BChW).round().long()
    counted = image_BChW.shape[0] * image_BChW.shape[1] * down * across
    zeros = torch.zeros(counted * _BINS, device=image_BChW.device)
    return zeros.scatter_add(0, bins.flatten(), torch.ones_like(image_BChW).flatten()).view(counted, _BINS)


def _mapped(image_BChW: Tensor, table: Tensor, places: _Places, tiles: tuple[int, int]) -> Tensor:
    """Map grey levels by the tables of the four nearest tiles, blended bilinearly."""
    (down, across), level_BChW = tiles, _levels(image_BChW)
    mapped = torch.zeros_like(image_BChW)
    for below in (0, 1):
        near_H = (places.above_H + below).clamp(0, down - 1)
        weight_H = places.down_H if below else 1 - places.down_H
        for right in (0, 1):
            near_W = (places.left_W + right).clamp(0, across - 1)
            weight_W = places.right_W if right else 1 - places.right_W
            near_BChW = (_planes(image_BChW) * down + near_H[:, None]) * across + near_W
            mapped = mapped + _looked_up(table, near_BChW, level_BChW) * (weight_H[:, None] * weight_W)
    return mapped


def _tables(counts: Tensor, clip_limit: float) -> Tensor:
    """Return the map of each tile from bins to [0, 1], flat; the identity for a tile without a pixel."""
    pixels = counts.sum(dim=1, keepdim=True)
    limited = counts.minimum((clip_limit * pixels / _BINS).floor().clamp_min(1))
    running = (limited + _dealt_out(pixels - limited.sum(dim=1, keepdim=True))).cumsum(dim=1) / pixels.clamp_min(1)
    identity = torch.linspace(0, 1, _BINS, device=counts.device)
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
