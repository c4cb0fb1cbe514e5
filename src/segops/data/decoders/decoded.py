"""Defines what decoding gives, how a file is read, and which samples can be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np

Reading = Literal["image", "values", "colours"]
"""How a file is read: an `image` as viewers show it; a mask by its stored `values`, a palette's indices among them; or
a mask by the `colours` that viewers show."""

UPRIGHT = 1
"""The orientation of an image whose first row is on top and whose first column is on the left."""


class Decoded(NamedTuple):
    """An image, and what decoding did to it.

    Attributes:
        array_HWC: of any integer, float or boolean type.
        alpha: whether its last channel is alpha.
        changes: what isn't as the file stores it, in words, such as that it was turned upright.
        orientation: the tag `Orientation`, which asks viewers to turn the image.
    """

    array_HWC: np.ndarray
    alpha: bool = False
    changes: tuple[str, ...] = ()
    orientation: object = UPRIGHT

    def changed(self, array_HWC: np.ndarray, change: str) -> Decoded:
        """Return another array with one more change."""
        return self._replace(array_HWC=array_HWC, changes=(*self.changes, change))


class Bands(NamedTuple):
    """An image's size, and its rows in order, each band as `decode` would give it.

    Attributes:
        bands: opens the file; raises UserError or a decoder's own error where it is damaged.
    """

    height: int
    width: int
    bands: Callable[[], Iterator[Decoded]]
