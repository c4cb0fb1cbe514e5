"""Tells images of different appearance apart where nobody says what they are: clusters with numbers, no names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# A gap between neighbouring images that separates clusters, and the fewest images on each side of it.
_BRIGHTNESS_GAP, _COLOUR_GAP = 0.15, 0.03
_MIN_IMAGES, _MIN_SHARE = 3, 0.02


class Appearance(NamedTuple):
    """How an image looks, each from 0 to 1.

    Attributes:
        brightness: the median over pixels of the largest channel.
        colour: the mean over pixels of the largest minus the smallest channel.
    """

    brightness: float
    colour: float


def appearances(images: list[Appearance | None]) -> list[str]:
    """Name the cluster of each image: `appearance-1` is the darkest, and of equally dark ones the least coloured.

    Images are apart where nothing lies in a gap of 0.15 in brightness or of 0.03 in colour, at least three of them and
    2 % on each side of it. Images without an appearance, whose values have units of their own, are `other`.
    """
    known = [image for image in images if image is not None]
    if not known:
        return ["other"] * len(images)
    brightness_N, colour_N = np.array(known).T
    keys = list(zip(_clusters(brightness_N, _BRIGHTNESS_GAP), _clusters(colour_N, _COLOUR_GAP), strict=True))
    number = {key: position for position, key in enumerate(sorted(set(keys)), start=1)}
    names = iter(f"appearance-{number[key]}" for key in keys)
    return ["other" if image is None else next(names) for image in images]


def _clusters(value_N: np.ndarray, gap: float) -> list[int]:
    """Return the number of each value's cluster, ascending with the values."""
    ordered_N = np.sort(value_N)
    fewest = max(_MIN_IMAGES, int(np.ceil(_MIN_SHARE * len(value_N))))
    cuts = []
    begin = 0
    for position in np.flatnonzero(np.diff(ordered_N) >= gap) + 1:
        if position - begin >= fewest and len(ordered_N) - position >= fewest:
            cuts.append((ordered_N[position - 1] + ordered_N[position]) / 2)
            begin = int(position)
    clusters: list[int] = np.searchsorted(np.array(cuts), value_N).tolist()
    return clusters
