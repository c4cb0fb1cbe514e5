"""Defines what stays the same through a training, and how its network sees images.

With several devices each process runs its share of every batch. What is drawn at random is drawn for the whole batch
in every process, so that N processes see what a single process would.

Axes: B batch, C channels, K logits, H height, W width; volumes have a depth D before H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, interpolate

from segops.contracts.tables import loss_columns
from segops.inference.preprocess import memory_layout, pad_to_multiple
from segops.params.candidate import CandidateParams
from segops.params.recipe import RecipeParams
from segops.training.augmentation.augment import augment
from segops.training.augmentation.changes import draw_changes
from segops.training.batches.subsets import Subsets
from segops.training.losses import Loss
from segops.training.state import TrainingState

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class TrainingBatch(NamedTuple):
    """A process's share of a batch.

    Attributes:
        image_BCHW: in [0, 1].
        mask_BHW: class indices.
        maps: what the loss needs beside masks, by the name of its argument, BHW in [0, 1].
        weight: factor of its mean loss, such that the processes' mean of weighted losses is the batch's.
    """

    image_BCHW: Tensor
    mask_BHW: Tensor
    maps: dict[str, Tensor]
    weight: float

    def halved(self) -> TrainingBatch:
        """Return the batch at half its height and width: means of 2x2 pixels, and every second pixel of all maps."""
        height, width = (side // 2 * 2 for side in self.image_BCHW.shape[2:])
        image_BChw = avg_pool2d(self.image_BCHW, 2)
        mask_Bhw, *maps = (map_BHW[:, :height:2, :width:2] for map_BHW in (self.mask_BHW, *self.maps.values()))
        return TrainingBatch(image_BChw, mask_Bhw, dict(zip(self.maps, maps, strict=True)), self.weight)


@dataclass(frozen=True)
class Task:
    """What stays the same through a training."""

    candidate: str
    params: CandidateParams
    fabric: Fabric
    loss: Loss
    subsets: Subsets

    @property
    def recipe(self) -> RecipeParams:
        """The candidate's recipe."""
        return self.params.recipe

    def share(self, count: int) -> list[int]:
        """Return this process's positions in a batch of `count`; there may be none."""
        return list(range(self.fabric.global_rank, count, self.fabric.world_size))

    def training_share(self, count: int) -> list[int]:
        """Return this process's positions in a training batch: a batch that is too small to share is each process's.

        All must take part in a step, and batch norm's statistics stay the batch's.
        """
        return self.share(count) if count >= self.fabric.world_size else list(range(count))

    def named_losses(self, subset: str, total_P: Tensor, count: int) -> dict[str, float]:
        """Return columns of history.csv: the means `<subset>_loss`, and `<subset>_loss_<part>` of each part.

        Args:
            subset: train or val.
            total_P: sums of `Loss`'s values.
            count: of what was summed.
        """
        names = loss_columns(subset, self.loss.parts)
        return {name: total / count for name, total in zip(names, total_P.tolist(), strict=True)}

    def training_batch(self, rows: list[int], generator: Generator) -> TrainingBatch:
        """Return this process's share of a batch, augmented."""
        drawn = self.subsets.train.draw(rows, generator)
        positions = self.training_share(len(rows))
        own, device = [drawn[position] for position in positions], self.fabric.device
        image_BCHW, mask_BHW = self.subsets.train.batch(own, device)
        maps = self.subsets.train.further(own, device)
        size, spacing_mm = tuple(image_BCHW.shape[2:]), self.params.input.spacing_mm
        changes = draw_changes(len(rows), size, self.recipe.augment, generator, spacing_mm).of(positions)
        image_BCHW, mask_BHW, *moved = augment(image_BCHW, mask_BHW, changes, *maps.values())
        weight = len(positions) * self.fabric.world_size / len(rows) if len(rows) >= self.fabric.world_size else 1.0
        return TrainingBatch(image_BCHW, mask_BHW, dict(zip(maps, moved, strict=True)), weight)

    def validation_batch(self, rows: list[int]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return image_BCHW in [0, 1], mask_BHW, and the maps that the loss needs, by name."""
        val, device = self.subsets.val, self.fabric.device
        return *val.batch(rows, device), val.further(rows, device)


def logits(task: Task, state: TrainingState, network: torch.nn.Module, image_BCHW: Tensor) -> Tensor:
    """Compute logits_BKHW float32 of images in [0, 1], padded and normalized as `inference.program` does it."""
    with task.fabric.autocast():
        logits_BKHW: Tensor = network(network_input(task, state, image_BCHW))
    return logits_BKHW[_inside(image_BCHW)].float()


def training_logits(task: Task, state: TrainingState, network: torch.nn.Module, image_BCHW: Tensor) -> list[Tensor]:
    """Compute `logits`, and with deep supervision the auxiliary outputs' after them, enlarged to the image's size.

    Nearest neighbour, as in MONAI's DynUNet, so that every loss sees the mask as it is.
    """
    if not state.network.deep_supervision:
        return [logits(task, state, network, image_BCHW)]
    with task.fabric.autocast():
        heads: list[Tensor] = network.forward_all(network_input(task, state, image_BCHW))  # type: ignore[operator]
    size = heads[0].shape[2:]
    return [interpolate(head.float(), size, mode="nearest")[_inside(image_BCHW)] for head in heads]


def _inside(image_BCHW: Tensor) -> tuple[slice, ...]:
    """Return the part of a padded map that is the image's."""
    return (slice(None), slice(None), *map(slice, image_BCHW.shape[2:]))


def supervised(losses: list[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Sum the losses of `training_logits` with weights that are normalized to sum 1.

    Args:
        losses: the finest output's first.
        weights: as many as losses; None: 1, 1/2, 1/4, ... (nnU-Net's).
    """
    weights = weights or [0.5**index for index in range(len(losses))]
    weighted = [loss * (weight / sum(weights)) for loss, weight in zip(losses, weights, strict=True)]
    return torch.stack(weighted).sum(dim=0)


def network_input(task: Task, state: TrainingState, image_BCHW: Tensor) -> Tensor:
    """Pad images in [0, 1] below and to the right, normalize them, and lay them out as `recipe.channels_last` says."""
    padded_BCHW = pad_to_multiple(image_BCHW, state.network.multiples)
    normalized_BCHW = task.subsets.steps.normalize(padded_BCHW)
    layout = memory_layout(normalized_BCHW.dim() - 2) if task.recipe.channels_last else torch.contiguous_format
    return normalized_BCHW.contiguous(memory_format=layout)


def by_process(task: Task, tensor: Tensor) -> Tensor:
    """Return a tensor of every process, on the CPU, a row each."""
    gathered = task.fabric.all_gather(tensor.to(task.fabric.device))
    assert isinstance(gathered, Tensor)
    return gathered.reshape(task.fabric.world_size, *tensor.shape).cpu()


def summed(task: Task, values: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes."""
    if task.fabric.world_size == 1:
        return values
    total = task.fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)
    return total
