"""What stays the same through a training, and how its network sees images.

Axes: B batch, C channels, K logits, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from segops.candidate_params import CandidateParams, RecipeParams
from segops.inference.preprocess import normalize, pad_to_multiple
from segops.training.batches import ResizedSubset
from segops.training.losses import Loss
from segops.training.state import TrainingState

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Task:
    """What stays the same through a training."""

    candidate: str
    params: CandidateParams
    fabric: Fabric
    loss: Loss
    subsets: dict[str, ResizedSubset]

    @property
    def recipe(self) -> RecipeParams:
        """The candidate's recipe."""
        return self.params.recipe


def logits(task: Task, state: TrainingState, network: torch.nn.Module, image_BCHW: Tensor) -> Tensor:
    """Logits_BKHW float32 of images in [0, 1], padded and normalized as `inference.program` does it."""
    height, width = image_BCHW.shape[2:]
    padded_BCHW = pad_to_multiple(image_BCHW, state.network.multiple)
    normalized_BCHW = normalize(padded_BCHW, task.params.input.normalize)
    layout = torch.channels_last if task.recipe.channels_last else torch.contiguous_format
    with task.fabric.autocast():
        logits_BKHW: Tensor = network(normalized_BCHW.contiguous(memory_format=layout))
    return logits_BKHW[:, :, :height, :width].float()
