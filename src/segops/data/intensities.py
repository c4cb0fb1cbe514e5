"""Measures the values that images hold, channel by channel: sums over pixels, and a sample of the foreground.

Axes: H height, W width, C channels, N pixels, I images. An image HWC may be a volume DHWC, with its mask DHW.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from segops.contracts.masks import is_foreground
from segops.contracts.prepared import ChannelIntensities

# nnU-Net (Isensee et al. 2021, `fingerprint_extraction/fingerprint_extractor.py`) samples the foreground of each case.
_BLOCK_PIXELS = 2**24  # so that temporary copies of a volume stay small
_OF_AN_IMAGE, _OF_ALL = 1_000, 1_000_000  # foreground pixels, at most
_NOTHING = np.zeros(0)
FOREGROUND_PERCENTILES = (0.5, 50.0, 99.5)


class ChannelSums:
    """Mean and deviation by channel over all pixels of the images that were added, in float64.

    Attributes:
        pixels: how many.
        sum, squares: of their values, and of these squared, C; empty before the first image.
    """

    def __init__(self, pixels: int = 0, total: np.ndarray = _NOTHING, squares: np.ndarray = _NOTHING) -> None:
        self.pixels, self.sum, self.squares = pixels, total, squares

    def add(self, image_HWC: np.ndarray) -> None:
        """Count an image in; all have the same number of channels."""
        pixels_NC = image_HWC.reshape(-1, image_HWC.shape[-1])
        for start in range(0, len(pixels_NC), _BLOCK_PIXELS):
            values_NC = pixels_NC[start : start + _BLOCK_PIXELS].astype(np.float64)
            self.join(ChannelSums(len(values_NC), values_NC.sum(axis=0), np.square(values_NC).sum(axis=0)))

    def join(self, other: ChannelSums) -> None:
        """Count in what another one has counted."""
        first = not self.pixels
        self.sum = other.sum if first else self.sum + other.sum
        self.squares = other.squares if first else self.squares + other.squares
        self.pixels += other.pixels

    @property
    def mean(self) -> np.ndarray:
        """The mean by channel, C."""
        return self.sum / self.pixels

    @property
    def std(self) -> np.ndarray:
        """The standard deviation by channel, C."""
        deviation: np.ndarray = np.sqrt(np.maximum(self.squares / self.pixels - self.mean**2, 0))
        return deviation


def foreground_sample(image_HWC: np.ndarray, mask_HW: np.ndarray, seed: int, images: int) -> np.ndarray:
    """Draw the values NC of up to 1,000 foreground pixels of an image, fewer of many images; none without foreground.

    Args:
        seed: draws them.
        images: how many are sampled.
    """
    places = np.flatnonzero(is_foreground(mask_HW))
    most = min(_OF_AN_IMAGE, max(1, _OF_ALL // images), len(places))
    drawn = np.random.default_rng(seed).choice(places, most, replace=False)
    sample_NC: np.ndarray = image_HWC.reshape(-1, image_HWC.shape[-1])[np.sort(drawn)]
    return sample_NC


class ImageValues(NamedTuple):
    """What an image adds to the figures of all: its sums, and a sample NC of its foreground."""

    sums: ChannelSums
    foreground_NC: np.ndarray


def image_values(image_HWC: np.ndarray, mask_HW: np.ndarray, number: int, images: int) -> ImageValues:
    """Measure an image, float, on the full scale of its type or in its own units.

    Args:
        number: the image's among those that are measured.
        images: how many they are.
    """
    sums = ChannelSums()
    sums.add(image_HWC)
    return ImageValues(sums, foreground_sample(image_HWC, mask_HW, number, images))


def channel_intensities(images: Iterable[ImageValues]) -> dict[str, list[ChannelIntensities]]:
    """Describe the intensities of images, separately for each number of channels; the images' order decides bits."""
    sums: dict[int, ChannelSums] = {}
    samples: dict[int, list[np.ndarray]] = {}
    for image in images:
        channels = image.foreground_NC.shape[-1]
        sums.setdefault(channels, ChannelSums()).join(image.sums)
        samples.setdefault(channels, []).append(image.foreground_NC)
    return {str(channels): _described(sums[channels], np.concatenate(samples[channels])) for channels in sorted(sums)}


def _described(sums: ChannelSums, foreground_NC: np.ndarray) -> list[ChannelIntensities]:
    """Describe the intensities of each channel: mean and deviation of all pixels, figures of the foreground."""
    return [
        ChannelIntensities(mean=round(float(mean), 9), std=round(float(std), 9), **_of_foreground(values_N))
        for mean, std, values_N in zip(sums.mean, sums.std, foreground_NC.T, strict=True)
    ]


def _of_foreground(values_N: np.ndarray) -> dict[str, float]:
    """Return mean, deviation and percentiles of foreground values; nothing where there are none."""
    if not len(values_N):
        return {}
    values_N = values_N.astype(np.float64)
    low, median, high = np.percentile(values_N, FOREGROUND_PERCENTILES)
    figures = {
        "mean": values_N.mean(),
        "std": values_N.std(),
        "p00_5": low,
        "p50": median,
        "p99_5": high,
    }
    return {f"foreground_{name}": round(float(value), 9) for name, value in figures.items()}
