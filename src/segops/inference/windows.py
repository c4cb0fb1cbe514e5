"""Cuts an image into windows, and blends their maps, weighted by a Gaussian.

Axes: B batch, C channels, K output channels, H height, W width; n windows of an axis, L its pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from segops.inference.rows import Rows, joined

# Pixels of the windows that go through the network at once, and their number at most. On a CPU four of 256x256 pixels
# are a tenth faster than one, and take a network of 5 million parameters 400 MB more.
_CPU_PX, _CPU_MOST = 2**16, 4
_GPU_PX, _GPU_MOST = 2**21, 64
_SIGMA = 1 / 8  # of the window's side, as in nnU-Net (Isensee et al. 2021)
_LARGE = 2  # times the largest training side: from there on an image that is resized is cut into windows


@dataclass(frozen=True)
class WindowRule:
    """The windows that a candidate sees an image in.

    Of native pixels they have the size of the training patches, and black below and to the right of a smaller image. An
    image that is resized is a single window, unless a side is larger than twice the largest training side: then windows
    have the median training size, so that objects keep the scale that the network has learnt.

    Attributes:
        size_hw: of a window where the image is cut.
        whole_up_to_hw: the largest image that is a single window; None: every image is cut.
        overlap: of neighbours, as a share of the window's side, in [0, 1).
    """

    size_hw: tuple[int, int]
    whole_up_to_hw: tuple[int, int] | None
    overlap: float

    @classmethod
    def of_resized(cls, height_px: tuple[int, int], width_px: tuple[int, int], overlap: float) -> WindowRule:
        """Make the rule for images that are resized, from the median and the largest training height and width."""
        (median_h, largest_h), (median_w, largest_w) = height_px, width_px
        return cls((median_h, median_w), (_LARGE * largest_h, _LARGE * largest_w), overlap)

    def window_hw(self, native_hw: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return height and width of the windows of an image of that size; all are int64 tensors without axes.

        Tensors, since an exported program learns an image's size when it runs.
        """
        size_h, size_w = (torch.full_like(side, size) for side, size in zip(native_hw, self.size_hw, strict=True))
        if self.whole_up_to_hw is None:
            return size_h, size_w
        large = (native_hw[0] > self.whole_up_to_hw[0]) | (native_hw[1] > self.whole_up_to_hw[1])
        height, width = (torch.where(large, size, side) for size, side in zip((size_h, size_w), native_hw, strict=True))
        return torch.minimum(height, native_hw[0]), torch.minimum(width, native_hw[1])


class WindowAxis(NamedTuple):
    """The windows along an axis of an image.

    Attributes:
        start_n: first pixel of each, int64.
        length: pixels of the image in each, an int64 tensor without axes.
        weight_nL: float64, of each window at each pixel; at each pixel they sum to 1.
    """

    start_n: Tensor
    length: Tensor
    weight_nL: Tensor


def window_axis(length_px: int, window_px: Tensor, overlap: float) -> WindowAxis:
    """Place windows along an axis from the first pixel in even steps; the last ends with the axis. On the CPU.

    Args:
        length_px: of the image.
        window_px: int64 without axes; a window that is longer than the image ends with it.
    """
    length = torch.clamp(window_px, max=length_px)
    step = (length * (1 - overlap)).floor().long().clamp_min(1)
    count = ((length_px - length + step - 1) // step + 1).item()
    assert isinstance(count, int | torch.SymInt)
    torch._check(count >= 1)  # what torch.export can't see
    start_n = torch.minimum(torch.arange(count) * step, length_px - length)
    position_nL = torch.arange(length_px, dtype=torch.float64)[None, :] + 0.5 - start_n[:, None]
    inside_nL = (position_nL > 0) & (position_nL < length)
    weight_nL = torch.exp(-0.5 * ((position_nL / length - 0.5) / _SIGMA) ** 2) * inside_nL
    return WindowAxis(start_n, length, weight_nL / weight_nL.sum(dim=0))


def blend_windows(
    image_BCHW: Tensor,
    window_hw: tuple[int, int],
    overlap: float,
    predict: Callable[[Tensor], Tensor],
) -> Tensor:
    """Predict an image in memory window by window: map_BKHW; see `blended_strips`."""
    return joined(blended_strips(Rows.of(image_BCHW), window_hw, overlap, predict))


def blended_strips(
    image: Rows,
    window_hw: tuple[int, int],
    overlap: float,
    predict: Callable[[Tensor], Tensor],
    frame_hw: tuple[int, int] | None = None,
) -> Iterator[Tensor]:
    """Predict window by window, average where windows overlap, and yield rows of the map as soon as they are done.

    No more is held than the rows that a row of windows covers.

    Args:
        image: its rows.
        window_hw: the window's size; an image that is smaller along an axis gets black below or to its right.
        overlap: of neighbours, as a share of the window's side, in [0, 1).
        predict: from windows BChw to their maps BKhw.
        frame_hw: the size at which the network sees a window, if that isn't the window's own.

    Yields:
        map_BKhW, from top to bottom.
    """
    if (image.height, image.width) == tuple(window_hw):
        yield predict(image.read(0, image.height))
        return
    rows, columns = (
        window_axis(side, torch.tensor(window), overlap)
        for side, window in zip((image.height, image.width), window_hw, strict=True)
    )
    tops, most = rows.start_n.tolist(), windows_at_once(frame_hw or window_hw, image.device)
    at_once = max(1, most // len(columns.start_n))
    unfinished_BKhW: Tensor | None = None
    for row in range(0, len(tops), at_once):
        group = range(row, min(row + at_once, len(tops)))
        top, bottom = tops[group[0]], tops[group[-1]] + int(rows.length)
        map_BKhW = _band(image.read(top, bottom), (rows, columns), group, window_hw, predict, most)
        if unfinished_BKhW is not None:
            map_BKhW[:, :, : unfinished_BKhW.shape[2]] += unfinished_BKhW
        done = (tops[group[-1] + 1] if group[-1] + 1 < len(tops) else image.height) - top
        yield map_BKhW[:, :, :done]
        unfinished_BKhW = map_BKhW[:, :, done:]


def _band(
    band_BChW: Tensor,
    axes: tuple[WindowAxis, WindowAxis],
    group: range,
    window_hw: tuple[int, int],
    predict: Callable[[Tensor], Tensor],
    most: int,
) -> Tensor:
    """Predict the windows of some rows of windows, a few at a time, and add up their maps by weight.

    Args:
        band_BChW: the image's rows that these windows cover.
        group: the rows of windows.
        most: windows at a time.

    Returns:
        map_BKhW of the band; what further windows add isn't in it.
    """
    (rows, columns), first_row = axes, int(axes[0].start_n[group[0]])
    fit_h, fit_w = int(rows.length), int(columns.length)
    black = (0, window_hw[1] - fit_w, 0, window_hw[0] - fit_h)
    places = list(product(((row, int(rows.start_n[row])) for row in group), enumerate(columns.start_n.tolist())))
    total_BKhW: Tensor | None = None
    for first, last in even_batches(len(places), most):
        spans = [
            (slice(top - first_row, top - first_row + fit_h), slice(left, left + fit_w))
            for (_, top), (_, left) in places[first:last]
        ]
        windows = torch.cat([F.pad(band_BChW[:, :, down, across], black) for down, across in spans])
        maps = predict(windows).split(len(band_BChW))
        for ((row, top), (column, _)), (down, across), map_BKhw in zip(places[first:last], spans, maps, strict=True):
            if total_BKhW is None:
                total_BKhW = map_BKhw.new_zeros(*map_BKhw.shape[:2], *band_BChW.shape[2:])
            weight_hw = rows.weight_nL[row, top : top + fit_h, None] * columns.weight_nL[column, across]
            total_BKhW[:, :, down, across] += map_BKhw[:, :, :fit_h, :fit_w] * weight_hw.to(map_BKhw)
    assert total_BKhW is not None, "an axis has a window"
    return total_BKhW


def windows_at_once(frame_hw: tuple[int, int], device: torch.device) -> int:
    """Return how many windows, or images of a frame's size, go through the network at once."""
    pixels, most = (_CPU_PX, _CPU_MOST) if device.type == "cpu" else (_GPU_PX, _GPU_MOST)
    return min(max(1, pixels // (frame_hw[0] * frame_hw[1])), most)


def even_batches(count: int, most: int) -> list[tuple[int, int]]:
    """Cut `count` things into as few batches of at most `most` as will do, as equal in size as they can be."""
    batches = -(-count // most)
    return [(count * number // batches, count * (number + 1) // batches) for number in range(batches)]
