"""Cuts random patches from training images at native size, and gives validation images as they are.

Patches are cut from the memory-mapped prepared files, or those of volumes at the candidate's spacing. The test subset
is never opened here.

Axes: B batch, C channels, H height, W width; h, w are a patch's height and width. Volumes have a depth D before H.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from segops.contracts.masks import is_foreground
from segops.data.arrays import PreparedData
from segops.inference.preprocess import unit_image
from segops.params.candidate import CandidateParams
from segops.training.batches.pixel_maps import PixelMaps
from segops.training.process import put

_PLACES = 1000  # pixels of a class of an image that patches are centred on; nnU-Net (Isensee et al. 2021) keeps 10,000


class Patch(NamedTuple):
    """Where a patch lies: the prepared row, and its first pixel along each axis."""

    row: int
    corner: tuple[int, ...]


@dataclass
class PatchSubset:
    """Random patches of the training images; an epoch has `recipe.patches_per_image` of each.

    A share of them (`recipe.foreground_patches`) is centred on a pixel of a foreground class, each class of the image
    with the same probability, as nnU-Net oversamples foreground (Isensee et al. 2021, Online Methods). The others lie
    anywhere inside the image. An image that is smaller than a patch along an axis has black at that axis's end.
    """

    data: PreparedData
    params: CandidateParams
    maps: dict[str, PixelMaps] = field(default_factory=dict)
    _places: dict[int, list[np.ndarray]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._rows = self.data.rows("train")

    def __len__(self) -> int:
        return len(self._rows) * self.params.recipe.patches_per_image

    def draw(self, rows: list[int], generator: Generator) -> list[Patch]:
        """Draw a patch for each of those rows of an epoch, 0 .. len - 1; the generator alone decides them."""
        count = 1 + len(self.params.input.size)
        drawn = torch.rand(len(rows), count, generator=generator, dtype=torch.float64).tolist()
        per_image = self.params.recipe.patches_per_image
        return [self._place(self._rows[row // per_image], numbers) for row, numbers in zip(rows, drawn, strict=True)]

    def batch(self, patches: list[Patch], device: torch.device) -> tuple[Tensor, Tensor]:
        """Cut patches as image_BChw float32 in [0, 1] and mask_Bhw uint8, on the device."""
        size, channels = self.params.input.size, self.params.input.channels
        image_BChw = torch.zeros(len(patches), channels, *size)
        mask_Bhw = torch.zeros(len(patches), *size, dtype=torch.uint8)
        self.data.will_read({patch.row for patch in patches})
        for i, patch in enumerate(patches):
            inside = self._inside(patch)
            cut_Chw = _scaled(self.data, self.data.image(patch.row)[inside], channels)[0]
            filled = [slice(side) for side in cut_Chw.shape[1:]]
            image_BChw[i][:, *filled] = cut_Chw
            mask_Bhw[i][*filled] = torch.from_numpy(self.data.mask(patch.row)[inside].copy())
        return put(image_BChw, device), put(mask_Bhw, device)

    def further(self, patches: list[Patch], device: torch.device) -> dict[str, Tensor]:
        """Cut the patches' parts of the maps, by name, Bhw float32 in [0, 1], on the device."""
        return {name: put(self._cut(maps, patches), device) for name, maps in self.maps.items()}

    def _cut(self, maps: PixelMaps, patches: list[Patch]) -> Tensor:
        """Cut the patches' parts of a kind of map, map_Bhw."""
        map_Bhw = torch.zeros(len(patches), *self.params.input.size)
        for i, patch in enumerate(patches):
            map_HW = maps[bisect_left(self._rows, patch.row)]
            cut_hw = torch.from_numpy(map_HW[self._inside(patch)].astype(np.float32))
            map_Bhw[i][*(slice(side) for side in cut_hw.shape)] = cut_hw
        return map_Bhw

    def _inside(self, patch: Patch) -> tuple[slice, ...]:
        """Return the part of an image that a patch shows."""
        return tuple(
            slice(begin, begin + side) for begin, side in zip(patch.corner, self.params.input.size, strict=True)
        )

    def class_pixels(self, classes: int) -> np.ndarray:
        """Count the pixels of each class in the training images, int64."""
        counted_C = np.zeros(classes, np.int64)
        for row in self._rows:
            counted_C += np.bincount(self.data.mask(row).reshape(-1), minlength=classes)[:classes]
        return counted_C

    def _place(self, row: int, numbers: list[float]) -> Patch:
        """Choose a patch of an image by numbers in [0, 1): one more than it has axes."""
        foreground, *anywhere = numbers
        sides = self.data.mask(row).shape
        room = [max(0, side - size) for side, size in zip(sides, self.params.input.size, strict=True)]
        if foreground < self.params.recipe.foreground_patches and (places := self._foreground(row)):
            of_class = places[int(anywhere[0] * len(places))]
            centre = np.unravel_index(int(of_class[int(anywhere[1] * len(of_class))]), sides)
            corner = [int(middle) - size // 2 for middle, size in zip(centre, self.params.input.size, strict=True)]
        else:
            corner = [int(number * (most + 1)) for number, most in zip(anywhere, room, strict=True)]
        return Patch(row, tuple(min(max(0, first), most) for first, most in zip(corner, room, strict=True)))

    def _foreground(self, row: int) -> list[np.ndarray]:
        """Return flat positions of up to _PLACES pixels of each foreground class of an image, the same in each run."""
        if row not in self._places:
            flat = self.data.mask(row).reshape(-1)
            rng = np.random.default_rng(row)
            by_class = [np.flatnonzero(flat == index) for index in range(1, len(self.data.meta.classes))]
            self._places[row] = [
                np.sort(rng.choice(positions, min(_PLACES, len(positions)), replace=False))
                for positions in by_class
                if len(positions)
            ]
        return self._places[row]


@dataclass
class NativeSubset:
    """Validation images at native size, one per batch, since their sizes differ."""

    data: PreparedData
    channels: int
    maps: dict[str, PixelMaps] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows = self.data.rows("val")

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the single image of `rows` as image_1CHW float32 in [0, 1] and mask_1HW uint8, on the device."""
        (row,) = (self._rows[row] for row in rows)
        mask_HW = torch.from_numpy(self.data.mask(row).copy())
        return put(_scaled(self.data, self.data.image(row), self.channels), device), put(mask_HW[None], device)

    def content(self, row: int) -> tuple[slice, ...]:
        """Return the whole of an image: native images have no borders."""
        return tuple(slice(0, side) for side in self.data.mask(self._rows[row]).shape)

    def has_foreground(self) -> bool:
        """Return whether a mask has foreground."""
        return any(is_foreground(self.data.mask(row)).any() for row in self._rows)

    def further(self, rows: list[int], device: torch.device) -> dict[str, Tensor]:
        """Return the maps of the single image of `rows` by name, 1HW float32 in [0, 1], on the device."""
        (row,) = rows
        found = {name: maps[row].astype(np.float32)[None] for name, maps in self.maps.items()}
        return {name: put(torch.from_numpy(map_1HW), device) for name, map_1HW in found.items()}


def _scaled(data: PreparedData, image_HWC: np.ndarray, channels: int) -> Tensor:
    """Return image_1CHW float32 in [0, 1] with the candidate's channels."""
    return unit_image(image_HWC, data.full_scale(image_HWC.dtype), channels)
