"""Shows the slices of prepared volumes as images, so that a network for images learns from them as from any others.

Axes: D depth, H height, W width of a volume; a slice's rows and columns are its two other axes, in their order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segops.contracts.masks import is_foreground
from segops.data.arrays import PreparedData
from segops.files import sha256_lines
from segops.params.input import SlicesParams

_SIDES = ("depth", "height", "width")


class SliceData(PreparedData):
    """Slices of the training and validation volumes, a row each; test is left out.

    Every so manieth slice of a volume is there, from the middle of the first so many on; of those of training without
    foreground a share, evenly spread over the volume.
    """

    def __init__(self, volumes: PreparedData, params: SlicesParams) -> None:
        import pandas as pd

        self.folder, self._fold = volumes.folder, None
        self._volumes, self._axis = volumes, params.array_axis
        self._images = np.empty(0, np.uint8)  # until `with_images` gives it others
        self._places = [place for row in range(len(volumes)) for place in _places(volumes, row, params)]
        self._rows = [self._entry(*place, params) for place in self._places]
        self.index = pd.DataFrame(self._rows)
        shown = f"slices {params.model_dump_json()}"
        hashes = {
            name: sha256_lines([getattr(volumes.meta, name), shown]) for name in ("images_sha256", "masks_sha256")
        }
        self.meta = volumes.meta.model_copy(update={"dimensions": 2, **hashes})

    def _entry(self, volume: int, number: int, params: SlicesParams) -> dict[Any, Any]:
        """Return a slice's row of the index: the volume's, with the slice's own name and sides."""
        row = self._volumes.index.iloc[volume].to_dict()
        height, width = (row[name] for axis, name in enumerate(_SIDES) if axis != self._axis)
        own = {"image_id": f"{row['image_id']}_{params.axis}_{number:04d}", "depth": 1, "instances": -1}
        return {**row, **own, "height": height, "width": width}

    def example(self, row: int) -> int:
        """Return the number of a slice's volume."""
        return self._places[row][0]

    def image(self, row: int) -> np.ndarray:
        """Return slice `row` of a volume's image, HWC; or what `with_images` put in its place."""
        if len(self._images):
            return super().image(row)
        volume, number = self._places[row]
        return _slice(self._volumes.image(volume), number, self._axis)

    def mask(self, row: int) -> np.ndarray:
        """Return slice `row` of a volume's mask, HW."""
        volume, number = self._places[row]
        return _slice(self._volumes.mask(volume), number, self._axis)

    def objects(self, row: int) -> None:
        """Return None: the objects of a slice aren't those of its volume."""


def _slice(array: np.ndarray, number: int, axis: int) -> np.ndarray:
    """Return a slice across an axis, a view."""
    across: np.ndarray = np.moveaxis(array, axis, 0)[number]
    return across


def _places(volumes: PreparedData, row: int, params: SlicesParams) -> list[tuple[int, int]]:
    """List the slices of a volume that are shown, as its number and their position."""
    subset = volumes.index["subset"].iloc[row]
    if subset == "test":
        return []
    mask_DHW = volumes.mask(row)
    numbers = range(min(params.every // 2, mask_DHW.shape[params.array_axis] - 1), mask_DHW.shape[params.array_axis])
    shown = list(numbers[:: params.every])
    if subset == "train" and params.empty_share < 1:
        other = tuple(axis for axis in range(3) if axis != params.array_axis)
        filled = is_foreground(mask_DHW).any(axis=other)
        empty = [number for number in shown if not filled[number]]
        kept = {empty[int(position)] for position in np.arange(round(params.empty_share * len(empty))) * _step(params)}
        shown = [number for number in shown if filled[number] or number in kept]
    return [(row, number) for number in shown]


def _step(params: SlicesParams) -> float:
    """Return the distance of kept slices among the empty ones."""
    return 1 / params.empty_share if params.empty_share else 0.0
