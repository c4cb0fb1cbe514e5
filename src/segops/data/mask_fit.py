"""Measures how well a mask fits an image, to find masks that belong to another image or lie turned or moved.

Where a mask belongs to an image, its classes differ in intensity from their surroundings and its borders lie where the
image has edges. Both are correlations of maps of SIDE x SIDE cells, onto which images and masks of any size are
averaged, less their local means, so that vignettes and slopes don't count. A mask is judged against the masks of other
images, whose scores say what chance gives.

Axes: N images or masks, C channels, K foreground classes, H height, W width, P pixels of a map, flattened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.contracts.masks import IGNORED

Array = npt.NDArray[np.float32]
Image = npt.NDArray[Any]

SIDE = 128
SHRUNK_PX = 384  # the longer side of an image before its edges are measured, at most
_SURROUNDINGS = SIDE // 4 + 1  # side of the square whose mean is taken off, cells
_MOST_CHANNELS = 4
_LEAST_DEVIATION = 0.02  # of other masks' scores: a smaller one is an accident
_CLEAR = 6.0  # deviations above other masks that a mask reaches only where it belongs
_CLEARLY_BETTER = 5.0  # deviations above the own mask
_LAGS = (1, -1, 2, -2, 3, -3)  # in the order of names
_LAG_P = 1e-3

TURNS = (
    "turned by 90 degrees to the left",
    "turned by 180 degrees",
    "turned by 90 degrees to the right",
    "flipped left to right",
    "transposed",
    "flipped top to bottom",
    "transposed across the other diagonal",
)
"""What `turned` does to a mask, by number from 1; 0 leaves it."""


def turned(mask_HW: Image, number: int) -> Image:
    """Turn or flip a mask: number 0 leaves it, 1 to 7 are TURNS."""
    flipped = mask_HW if number < 4 else mask_HW[:, ::-1]
    return np.rot90(flipped, number % 4)


@dataclass(frozen=True)
class ImageMaps:
    """Where an image is bright, by channel, and where it has edges; each map has mean 0 and length 1, or is 0."""

    contrast_CP: Array
    edges_P: Array


@dataclass(frozen=True)
class MaskMaps:
    """Where a mask's classes are, and its borders; each map has mean 0 and length 1, or is 0."""

    classes_KHW: Array
    border_HW: Array

    def turned(self, number: int) -> MaskMaps:
        """Return the maps of the mask that `turned` makes."""
        classes = np.stack([turned(map_HW, number) for map_HW in self.classes_KHW])
        return MaskMaps(classes, turned(self.border_HW, number))


def image_maps(image_HWC: Image) -> ImageMaps:
    """Measure an image of any sample type; of many channels the first four count."""
    channels_CHW = [spread(shrunk(image_HWC[..., c])) for c in range(min(_MOST_CHANNELS, image_HWC.shape[-1]))]
    if all(np.array_equal(channels_CHW[0], other) for other in channels_CHW[1:]):
        channels_CHW = channels_CHW[:1]  # grey, written as colour
    edges_HW = np.sqrt(sum(edges(channel_HW) for channel_HW in channels_CHW))
    return ImageMaps(
        np.stack([_map(channel_HW) for channel_HW in channels_CHW]).reshape(-1, SIDE**2), _map(edges_HW).ravel()
    )


def mask_maps(mask_HW: Image, classes: int) -> MaskMaps:
    """Measure a mask of class indices; 0 is background."""
    maps_KHW = [_map(mask_HW == index) for index in range(1, classes)]
    return MaskMaps(np.stack(maps_KHW), _map(border(mask_HW)))


def edges(image_HW: Array) -> Array:
    """Return the length of the gradient of a slightly smoothed image."""
    from scipy.ndimage import gaussian_filter

    down_HW, right_HW = np.gradient(gaussian_filter(image_HW, 1.0))
    return np.asarray(np.hypot(down_HW, right_HW), np.float32)


def border(mask_HW: Image) -> npt.NDArray[np.bool_]:
    """Find the pixels with a 4-neighbour of another class; the edge of the image or of ignored pixels is no border."""
    border_HW, known_HW = np.zeros(mask_HW.shape, bool), mask_HW != IGNORED
    down = (mask_HW[1:] != mask_HW[:-1]) & known_HW[1:] & known_HW[:-1]
    right = (mask_HW[:, 1:] != mask_HW[:, :-1]) & known_HW[:, 1:] & known_HW[:, :-1]
    border_HW[1:] |= down
    border_HW[:-1] |= down
    border_HW[:, 1:] |= right
    border_HW[:, :-1] |= right
    return border_HW


def scores(images: Sequence[ImageMaps], masks: Sequence[MaskMaps]) -> npt.NDArray[np.float64]:
    """Score each image with each mask, -1 to 2: an array of images by masks.

    A score is the mean over classes of the largest correlation with a channel, whatever its sign, plus the correlation
    of edges and borders.
    """
    channels = max(len(image.contrast_CP) for image in images)
    edges_NP = np.stack([image.edges_P for image in images])
    total = edges_NP @ np.stack([mask.border_HW.ravel() for mask in masks]).T
    classes_NKP = np.stack([mask.classes_KHW.reshape(len(mask.classes_KHW), -1) for mask in masks])
    by_class = np.zeros((classes_NKP.shape[1], *total.shape))
    for channel in range(channels):
        contrast_NP = np.stack([image.contrast_CP[min(channel, len(image.contrast_CP) - 1)] for image in images])
        for index in range(len(by_class)):
            np.maximum(by_class[index], np.abs(contrast_NP @ classes_NKP[:, index].T), out=by_class[index])
    return np.asarray(total + by_class.mean(axis=0), np.float64)


@dataclass(frozen=True)
class Fit:
    """How well an image's mask fits.

    Attributes:
        beaten: share of the other masks that fit the image less well than its own.
        better_mask: number of another image's mask that fits clearly better; None: there is none.
        turn: number in TURNS, from 1, of a turn with which the own mask fits clearly better; 0: as it is.
    """

    beaten: float
    better_mask: int | None = None
    turn: int = 0


def fits(images: Sequence[ImageMaps], masks: Sequence[MaskMaps]) -> list[Fit]:
    """Judge each image's own mask against the others and against its own turns.

    Another mask counts as better only where it stands out among all masks for that image, and the image among all
    images for that mask, or where the masks fit by a constant step in the given order.

    Args:
        images, masks: at least 3, in the order of their names; `masks[i]` is of `images[i]`. None is empty.
    """
    score_NN = scores(images, masks)
    by_row_NN, by_column_NN = _deviations(score_NN), _deviations(score_NN.T).T
    turn_N = _turns(images, masks, score_NN)
    better_N, lag = _better(by_row_NN, by_column_NN), _lag(by_row_NN)
    found = []
    for number, row_N in enumerate(by_row_NN):
        better = better_N.get(number)
        shifted = number + lag
        if better is None and lag and 0 <= shifted < len(row_N) and row_N[shifted] > row_N[number]:
            better = shifted
        beaten = float((row_N < row_N[number]).sum()) / (len(row_N) - 1)
        found.append(Fit(beaten, better if not turn_N[number] else None, int(turn_N[number])))
    return found


def _turns(
    images: Sequence[ImageMaps], masks: Sequence[MaskMaps], score_NN: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Return, by image, the turn with which its own mask fits clearly better than as it is and than any other; else 0.

    Where several do, as for a symmetric mask, it is the one that mends most images.
    """
    turned_N7 = np.stack([_own_turned(images, masks, number) for number in range(1, 8)], axis=1)
    turned_N7 = (turned_N7 - _centre(score_NN)[:, None]) / _deviation(score_NN)[:, None]
    by_row_NN = _deviations(score_NN)
    clear_N7 = (turned_N7 >= np.maximum(_CLEAR, by_row_NN.diagonal() + _CLEARLY_BETTER)[:, None]) & (
        turned_N7 > by_row_NN.max(axis=1, keepdims=True)
    )
    usual = int(clear_N7.sum(axis=0).argmax())
    turn_N = np.where(clear_N7[:, usual], usual, np.where(clear_N7, turned_N7, -np.inf).argmax(axis=1))
    return np.where(clear_N7.any(axis=1), turn_N + 1, 0)


def _own_turned(images: Sequence[ImageMaps], masks: Sequence[MaskMaps], number: int) -> npt.NDArray[np.float64]:
    """Score each image with its own mask, turned."""
    return np.array([scores([image], [mask.turned(number)])[0, 0] for image, mask in zip(images, masks, strict=True)])


def _better(by_row_NN: npt.NDArray[Any], by_column_NN: npt.NDArray[Any]) -> dict[int, int]:
    """Return, by image, another mask that stands out for it, and for which it stands out."""
    own_N = by_row_NN.diagonal()
    best_N, owner_N = by_row_NN.argmax(axis=1), by_column_NN.argmax(axis=0)
    rows = np.arange(len(own_N))
    clear_N = (by_row_NN[rows, best_N] >= np.maximum(_CLEAR, own_N + _CLEARLY_BETTER)) & (
        by_column_NN[rows, best_N] >= _CLEAR
    )
    return {int(i): int(best_N[i]) for i in np.flatnonzero(clear_N) if owner_N[best_N[i]] == i}


def _lag(by_row_NN: npt.NDArray[Any]) -> int:
    """Return the step in the order of names by which masks fit better than the own ones, if chance doesn't explain it.

    Many images together show what a single one doesn't: where contrast is weak, or where neighbours are alike, as the
    frames of a film are. The gain must be of one sign in nearly all images whose masks differ (a sign test), its mean
    above 0, and the other masks must fit better than any. 0: there is no such step.
    """
    from scipy.stats import binomtest, ttest_1samp

    score_NN = by_row_NN - by_row_NN.mean(axis=0)  # a mask with much border fits everything a little better
    own_N = score_NN.diagonal()
    least, lag = _LAG_P, 0
    for step in _LAGS:
        shifted = np.diagonal(score_NN, step)
        gain = shifted - (own_N[: len(shifted)] if step > 0 else own_N[-len(shifted) :])
        differing = gain[np.abs(gain) > 1e-6]
        if len(differing) < 2:
            continue
        p = max(
            binomtest(int((differing > 0).sum()), len(differing), alternative="greater").pvalue,
            ttest_1samp(differing, 0, alternative="greater").pvalue,
            ttest_1samp(shifted, 0, alternative="greater").pvalue,
        )
        if p < least:
            least, lag = float(p), step
    return lag


def _deviations(score_NN: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Express each row's scores in deviations from its other masks' centre."""
    return np.asarray((score_NN - _centre(score_NN)[:, None]) / _deviation(score_NN)[:, None])


def _others(score_NN: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the scores of each row without the own mask's."""
    n = len(score_NN)
    return np.asarray(score_NN[~np.eye(n, dtype=bool)].reshape(n, n - 1))


def _centre(score_NN: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the median score of each row's other masks."""
    return np.asarray(np.median(_others(score_NN), axis=1))


def _deviation(score_NN: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the standard deviation of each row's other masks, by the median absolute deviation.

    A row's own is taken where it is larger than that of most rows, since few masks can be alike by accident.
    """
    apart = np.abs(_others(score_NN) - _centre(score_NN)[:, None])
    by_row = 1.4826 * np.median(apart, axis=1)
    return np.maximum(by_row, max(float(np.median(by_row)), _LEAST_DEVIATION))


def shrunk(image_HW: Image) -> Array:
    """Average an image onto fewer pixels, where its longer side has more than SHRUNK_PX."""
    height, width = image_HW.shape
    factor = max(1.0, max(height, width) / SHRUNK_PX)
    return resized(image_HW, max(1, round(height / factor)), max(1, round(width / factor)))


def spread(image_HW: Array) -> Array:
    """Stretch values so that the 1st percentile is 0 and the 99th 1; what lies beyond is cut."""
    low, high = np.percentile(image_HW[::2, ::2], [1, 99])
    return np.asarray(np.clip((image_HW - low) / max(high - low, 1e-12), 0, 1), np.float32)


def _map(values_HW: Image) -> Array:
    """Average values onto SIDE x SIDE cells, take off the local mean, and scale to length 1."""
    from scipy.ndimage import uniform_filter

    cells = resized(values_HW, SIDE, SIDE)
    cells -= uniform_filter(cells, _SURROUNDINGS, mode="nearest")
    cells -= cells.mean()
    length = float(np.linalg.norm(cells))
    return cells / length if length > 1e-6 else np.zeros_like(cells)


def resized(values_HW: Image, height: int, width: int) -> Array:
    """Average values onto a grid of another size, by the share of each cell that a pixel covers."""
    import PIL.Image

    source = PIL.Image.fromarray(np.ascontiguousarray(values_HW, np.float32))
    return np.array(source.resize((width, height), PIL.Image.Resampling.BOX), np.float32)
