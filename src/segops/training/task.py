"""What stays the same through a training, and how its network sees images.

With several devices each process runs its share of every batch. What is drawn at random is drawn for the whole batch
in every process, so that N processes see what one would.

Axes: B batch, C channels, K logits, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from segops.candidate_params import CandidateParams, RecipeParams
from segops.inference.preprocess import pad_to_multiple
from segops.training.augment import augment, draw_changes
from segops.training.losses import Loss
from segops.training.state import TrainingState
from segops.training.subsets import Subsets

if TYPE_CHECKING:
    from lightning_fabric import Fabric


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
        """This process's positions in a batch of `count`; may be none."""
        return list(range(self.fabric.global_rank, count, self.fabric.world_size))

    def training_batch(self, rows: list[int], generator: Generator) -> tuple[Tensor, Tensor, float]:
        """This process's share of a batch, augmented.

        Returns: image_BCHW in [0, 1]; mask_BHW; the weight of its mean loss, such that the processes' mean of weighted
            losses is the batch's. A process without a share gets the first image, at weight 0: all must take part.
        """
        drawn = self.subsets.train.draw(rows, generator)
        share = self.share(len(rows))
        taken = share or [0]
        image_BCHW, mask_BHW = self.subsets.train.batch([drawn[at] for at in taken], self.fabric.device)
        size = (image_BCHW.shape[2], image_BCHW.shape[3])
        changes = draw_changes(len(rows), size, self.recipe.augment, generator)
        weight = len(share) * self.fabric.world_size / len(rows)
        return *augment(image_BCHW, mask_BHW, changes.of(taken)), weight


def logits(task: Task, state: TrainingState, network: torch.nn.Module, image_BCHW: Tensor) -> Tensor:
    """Logits_BKHW float32 of images in [0, 1], padded and normalized as `inference.program` does it."""
    height, width = image_BCHW.shape[2:]
    padded_BCHW = pad_to_multiple(image_BCHW, state.network.multiple)
    normalized_BCHW = task.subsets.steps.normalize(padded_BCHW)
    layout = torch.channels_last if task.recipe.channels_last else torch.contiguous_format
    with task.fabric.autocast():
        logits_BKHW: Tensor = network(normalized_BCHW.contiguous(memory_format=layout))
    return logits_BKHW[:, :, :height, :width].float()


def summed(task: Task, values: Tensor) -> Tensor:
    """The sum of a tensor over the processes."""
    if task.fabric.world_size == 1:
        return values
    total = task.fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)
    return total
