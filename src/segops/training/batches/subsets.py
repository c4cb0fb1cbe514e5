"""Opens what a training sees: its images by subset, in batches.

A training subset's `draw` decides what an epoch shows for its rows (from a generator on the CPU), `batch` fetches it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from segops.data.arrays import PreparedData
from segops.inference.steps import InputSteps
from segops.params.candidate import CandidateParams
from segops.params.loss import BoundaryBCELoss
from segops.training.batches.borders import BorderMaps, border_maps
from segops.training.batches.enhanced import enhanced
from segops.training.batches.patches import NativeSubset, PatchSubset
from segops.training.batches.resized import cache_key, resized_subsets
from segops.training.input_statistics import input_statistics


class ValidationSubset(Protocol):
    """Images to judge a network by."""

    def __len__(self) -> int:
        """Number of images."""

    def batch(self, rows: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return image_BCHW float32 in [0, 1] and mask_BHW uint8 class indices, on the device."""

    def border(self, rows: list[int], device: torch.device) -> Tensor:
        """Return border_BHW of `borders.BorderMaps`, float32, on the device; for a loss that needs it."""

    def content(self, row: int) -> tuple[slice, slice]:
        """Return the rows and columns of an image in `batch` without the borders of `input.resize: pad`."""

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

    def border(self, drawn: list[Any], device: torch.device) -> Tensor:
        """Return border_BHW of `borders.BorderMaps` of what was drawn, float32, on the device, if the loss needs it."""

    def class_pixels(self, classes: int) -> np.ndarray:
        """Count the pixels of each class in the training images, int64."""


class Subsets(NamedTuple):
    """What a training sees: train and val, the size of a validation batch, the ids of val's images, the input's steps.

    The steps that change whole images are done; `steps.normalize` is left to do.
    """

    train: TrainingSubset
    val: ValidationSubset
    val_batch_size: int
    val_ids: list[str]
    steps: InputSteps


def open_subsets(data: PreparedData, params: CandidateParams, cache_root: Path, *, device: torch.device) -> Subsets:
    """Open train and val as the candidate sees them: resized (held on a GPU that has room for them), or native.

    Args:
        data: the prepared images.
        params: the candidate's.
        cache_root: holds derived arrays.
        device: where batches will go.
    """
    steps = InputSteps(params.input, input_statistics(data, params.input))
    data = enhanced(data, steps, cache_root)
    val_ids = [str(data.index["image_id"].iloc[row]) for row in data.rows("val")]
    steps.to(device)
    if params.input.resize == "none":
        maps = _native_borders(data, params, cache_root)
        val = NativeSubset(data, params.input.channels, borders=maps.get("val"))
        return Subsets(PatchSubset(data, params, borders=maps.get("train")), val, 1, val_ids, steps)
    resized = resized_subsets(data, params.input, cache_root)
    for name, subset in resized.items():
        subset.reside(device)
        if isinstance(params.recipe.loss, BoundaryBCELoss):
            subset.borders = border_maps(
                [params.input.size] * len(subset),
                subset.masks.__getitem__,
                params.recipe.loss.sigma_px,
                cache_root,
                identity=f"{cache_key(data, params.input)} {name}",
            )
    resized["train"].foreground_images = params.recipe.foreground_images
    return Subsets(resized["train"], resized["val"], params.recipe.batch_size, val_ids, steps)


def _native_borders(data: PreparedData, params: CandidateParams, cache_root: Path) -> dict[str, BorderMaps]:
    """Return the border maps of training and validation images at native size; none where the loss needs none."""
    if not isinstance(params.recipe.loss, BoundaryBCELoss):
        return {}
    sigma_px = params.recipe.loss.sigma_px

    def maps(subset: Literal["train", "val"]) -> BorderMaps:
        rows = data.rows(subset)
        shapes = [(int(height), int(width)) for height, width in (data.mask(row).shape for row in rows)]
        identity = f"{data.meta.sha256} native {subset}"
        return border_maps(shapes, lambda position: data.mask(rows[position]), sigma_px, cache_root, identity=identity)

    return {"train": maps("train"), "val": maps("val")}


def batches(count: int, size: int, generator: Generator | None = None) -> Iterator[list[int]]:
    """Yield rows 0 .. count - 1 in batches of `size`, the last smaller; shuffled where a generator is given."""
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    for rows in order.split(size):
        yield sorted(rows.tolist())  # ascending reads of the file; a batch has no order
