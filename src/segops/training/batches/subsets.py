"""Opens what a training sees: its images by subset, in batches.

A training subset's `draw` decides what an epoch shows for its rows (from a generator on the CPU), `batch` fetches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from segops.data.arrays import PreparedData
from segops.inference.steps import InputSteps
from segops.params.candidate import CandidateParams
from segops.training.batches.enhanced import enhanced
from segops.training.batches.object_maps import MapOf, wanted_maps
from segops.training.batches.patches import NativeSubset, PatchSubset
from segops.training.batches.pixel_maps import PixelMaps, pixel_maps
from segops.training.batches.resized import RESIZED, ResizedObjects, cache_key, resized_subsets
from segops.training.input_statistics import input_statistics


class ValidationSubset(Protocol):
    """Images to judge a network by."""

    def __len__(self) -> int:
        """Number of images."""

    def batch(self, rows: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return image_BCHW float32 in [0, 1] and mask_BHW uint8 class indices, on the device."""

    def further(self, rows: list[int], device: torch.device) -> dict[str, Tensor]:
        """Return the maps that the training needs beside masks, by name, BHW float32 in [0, 1], on the device."""

    def content(self, row: int) -> tuple[slice, ...]:
        """Return the part of an image in `batch`, an axis each, without the borders of `input.resize: pad`."""

    def has_foreground(self) -> bool:
        """Return whether a mask, as `batch` gives it, has foreground."""


class TrainingSubset(Protocol):
    """Images to learn from."""

    def __len__(self) -> int:
        """Number of samples per epoch."""

    def draw(self, rows: list[int], generator: Generator) -> list[Any]:
        """Draw what an epoch shows for those of its rows."""

    def batch(self, drawn: list[Any], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return what was drawn, as image_BCHW float32 in [0, 1] and mask_BHW uint8 class indices, on the device."""

    def further(self, drawn: list[Any], device: torch.device) -> dict[str, Tensor]:
        """Return the maps of what was drawn that the training needs beside masks, as of `ValidationSubset`."""

    def class_pixels(self, classes: int) -> np.ndarray:
        """Count the pixels of each class in the training images, int64."""


class Subsets(NamedTuple):
    """What a training sees: train and val, and what goes with them.

    Attributes:
        val_batch_size: of images.
        val_ids: of val's images.
        val_examples: by image of val, the position of what is scored: of slices their volume's, else its own.
        steps: those that change whole images are done; `normalize` is left to do.
    """

    train: TrainingSubset
    val: ValidationSubset
    val_batch_size: int
    val_ids: list[str]
    val_examples: list[int]
    steps: InputSteps


def open_subsets(data: PreparedData, params: CandidateParams, cache_root: Path, *, device: torch.device) -> Subsets:
    """Open train and val as the candidate sees them: resized (held on a GPU that has room for them), or native.

    Args:
        data: the prepared images, `as_seen`.
        params: the candidate's.
        cache_root: holds derived arrays.
        device: where batches will go.
    """
    steps = InputSteps(params.input, input_statistics(data, params.input))
    data = enhanced(data, steps, cache_root)
    val_ids = [str(data.index["image_id"].iloc[row]) for row in data.rows("val")]
    steps.to(device)
    if params.input.resize == "none":
        train = PatchSubset(data, params, maps=_native_maps(data, params, "train", cache_root))
        val = NativeSubset(data, params.input.channels, maps=_native_maps(data, params, "val", cache_root))
        return Subsets(train, val, 1, val_ids, _positions(data), steps)
    resized = resized_subsets(data, params.input, cache_root)
    for name in RESIZED:
        subset = resized[name]
        subset.reside(device)
        identity = f"{cache_key(data, params.input)} {name}"
        objects = ResizedObjects(data, data.rows(name), params.input)
        shapes = [params.input.size_hw] * len(subset)
        subset.maps = _maps(params, shapes, subset.masks.__getitem__, objects, cache_root, identity)
    resized["train"].foreground_images = params.recipe.foreground_images
    return Subsets(resized["train"], resized["val"], params.recipe.batch_size, val_ids, _positions(data), steps)


def _positions(data: PreparedData) -> list[int]:
    """Return for each validation image the position of its example among those of validation."""
    examples = [data.example(row) for row in data.rows("val")]
    position = {example: number for number, example in enumerate(dict.fromkeys(examples))}
    return [position[example] for example in examples]


def _native_maps(
    data: PreparedData, params: CandidateParams, subset: Literal["train", "val"], cache_root: Path
) -> dict[str, PixelMaps]:
    """Return the maps of a subset's images at native size, by name."""
    rows = data.rows(subset)
    sizes = data.index[["height", "width"]].iloc[rows]
    shapes = [(int(height), int(width)) for height, width in sizes.itertuples(index=False)]

    def mask(position: int) -> np.ndarray:
        return data.mask(rows[position])

    def objects(position: int) -> np.ndarray | None:
        return data.objects(rows[position])

    return _maps(params, shapes, mask, objects, cache_root, f"{data.meta.sha256} native {subset}")


def _maps(
    params: CandidateParams,
    shapes: Sequence[tuple[int, int]],
    mask: Callable[[int], np.ndarray],
    objects: Callable[[int], np.ndarray | None],
    cache_root: Path,
    identity: str,
) -> dict[str, PixelMaps]:
    """Derive the maps that a training needs, by name, or open them.

    Args:
        shapes: height and width of each image.
        mask, objects: of the image at a position, at that size.
        identity: names these images.
    """
    maps = {}
    for name, (kind, compute) in wanted_maps(params).items():

        def at_position(position: int, compute: MapOf = compute) -> np.ndarray:
            return compute(mask(position), objects(position))

        maps[name] = pixel_maps(shapes, at_position, cache_root, identity=f"{identity} {kind}")
    return maps


def batches(count: int, size: int, generator: Generator | None = None) -> Iterator[list[int]]:
    """Yield rows 0 .. count - 1 in batches of `size`, the last smaller; shuffled where a generator is given."""
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    for rows in order.split(size):
        yield sorted(rows.tolist())  # ascending reads of the file; a batch has no order
