"""Cuts a volume into windows, and blends their maps, weighted by a Gaussian along each axis.

Axes: B batch, C channels, K output channels, D depth, H height, W width; d, h, w of a window; L the voxels of an axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from segops.inference.preprocess import window_matrices
from segops.inference.windows import WindowAxis, blend_windows, window_axis

Predict = Callable[[Tensor], Tensor]

_BATCH = 2  # windows at a time


def blended(image: Tensor, size: tuple[int, ...], overlap: float, predict: Predict) -> Tensor:
    """Predict an image BCHW or a volume BCDHW window by window; see `blend_windows` and `blend_volume`."""
    if len(size) == 2:
        return blend_windows(image, (size[0], size[1]), overlap, predict)
    return blend_volume(image, size, overlap, predict)


def blend_volume(image_BCDHW: Tensor, size: tuple[int, ...], overlap: float, predict: Predict) -> Tensor:
    """Predict window by window and average where windows overlap.

    Args:
        image_BCDHW: float.
        size: the window's; a volume that is smaller along an axis gets black at that axis's end.
        overlap: of neighbours, as a share of the window's side, in [0, 1).
        predict: from windows BCdhw to their maps BKdhw.

    Returns:
        map_BKDHW of the whole volume.
    """
    axes = window_axes(image_BCDHW, size, overlap)
    fits = [int(axis.length) for axis in axes]
    black = [voxels for window, fit in zip(size[::-1], fits[::-1], strict=True) for voxels in (0, window - fit)]
    total_BKDHW: Tensor | None = None
    all_places = list(product(*(enumerate(axis.start_n.tolist()) for axis in axes)))
    for first in range(0, len(all_places), _BATCH):
        places = all_places[first : first + _BATCH]
        spans = [[slice(begin, begin + fit) for (_, begin), fit in zip(place, fits, strict=True)] for place in places]
        windows = torch.cat([F.pad(image_BCDHW[:, :, *span], black) for span in spans])
        for place, span, map_BKdhw in zip(places, spans, predict(windows).split(len(image_BCDHW)), strict=True):
            if total_BKDHW is None:
                total_BKDHW = map_BKdhw.new_zeros(*map_BKdhw.shape[:2], *image_BCDHW.shape[2:])
            weights = [axis.weight_nL[n, part] for axis, (n, _), part in zip(axes, place, span, strict=True)]
            weight_dhw = reduce(lambda plane, weight_L: plane[..., None] * weight_L, weights)
            total_BKDHW[:, :, *span] += map_BKdhw[:, :, *map(slice, fits)] * weight_dhw.to(map_BKdhw)
    assert total_BKDHW is not None, "an axis has a window"
    return total_BKDHW


def blend_at_once(image_BCDHW: Tensor, size: tuple[int, ...], overlap: float, predict: Predict) -> Tensor:
    """Do what `blend_volume` does with all windows in the same batch, since an exported program has no loop."""
    batch, channels = image_BCDHW.shape[:2]
    axes = window_axes(image_BCDHW, size, overlap)
    matrices = [
        window_matrices(axis, (0, axis.length), length, window, image_BCDHW)
        for axis, length, window in zip(axes, image_BCDHW.shape[2:], size, strict=True)
    ]
    grid = image_BCDHW
    for axis, (into_nfL, _) in enumerate(matrices, start=2):
        grid = _along(grid, into_nfL, axis)
    (nd, nh, nw), (d, h, w) = (axis.start_n.shape[0] for axis in axes), size
    frames = grid.view(batch, channels, nd, d, nh, h, nw, w).permute(0, 2, 4, 6, 1, 3, 5, 7)
    maps = predict(frames.reshape(batch * nd * nh * nw, channels, d, h, w))
    answers = maps.reshape(batch, nd, nh, nw, maps.shape[1], d, h, w).permute(0, 4, 1, 5, 2, 6, 3, 7)
    blended_BKDHW = answers.reshape(batch, maps.shape[1], nd * d, nh * h, nw * w)
    for axis, (_, back_Lnf) in enumerate(matrices, start=2):
        blended_BKDHW = _along(blended_BKDHW, back_Lnf, axis)
    return blended_BKDHW


def window_axes(image_BCDHW: Tensor, size: Sequence[int], overlap: float) -> list[WindowAxis]:
    """Place windows along each axis of a volume."""
    sides = zip(image_BCDHW.shape[2:], size, strict=True)
    return [window_axis(side, torch.full((), window, dtype=torch.int64), overlap) for side, window in sides]


def _along(volume: Tensor, matrix_OL: Tensor, axis: int) -> Tensor:
    """Multiply an axis of L voxels by a matrix."""
    return (volume.movedim(axis, -1) @ matrix_OL.T).movedim(-1, axis)
