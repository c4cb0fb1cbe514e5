"""Holds all that an epoch's end hands to the next epoch.

Random numbers aren't part of it: they follow from the seed and the epoch's number (`seed_epoch`). Only within an epoch
that was interrupted are they (`EpochPart`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from segops.models.blocks import SegmentationNetwork
from segops.params.recipe import RecipeParams
from segops.training.schedules import Schedule

Row = dict[str, float]


class EpochPart(NamedTuple):
    """Where an interrupted epoch stopped.

    Attributes:
        step: how many are done.
        generator: the state of the generator of its augmentation.
        random_R: states of torch's own generators by kind of device (dropout), a row per process.
        losses_RP: what each process has summed.
    """

    step: int
    generator: Tensor
    random_R: dict[str, Tensor]
    losses_RP: Tensor


@dataclass
class TrainingState:
    """Network, optimizer, schedule, averaged weights, history and the best epoch.

    Attributes:
        average: exponential moving average of parameters and buffers; None without EMA.
        history: rows of `tables.history_columns`.
        best_epoch: of `recipe.monitor` on validation, 1-based; 0 before the first.
        best_weights: of that epoch; empty where `recipe.keep` is `last`.
        part: of an epoch that was interrupted between two of its steps; None at an epoch's end.
    """

    recipe: RecipeParams
    network: SegmentationNetwork
    optimizer: Optimizer
    schedule: Schedule
    average: AveragedModel | None
    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    part: EpochPart | None = None

    @property
    def judged(self) -> torch.nn.Module:
        """The network that is validated and kept: with averaged weights where they are averaged."""
        return self.average.module if self.average is not None else self.network

    @property
    def stopped(self) -> bool:
        """Whether early stopping ends the training here."""
        patience = self.recipe.early_stopping_patience
        return patience is not None and len(self.history) - self.best_epoch >= patience

    @property
    def reached(self) -> str:
        """How far it has come, for people."""
        within = f" and step {self.part.step} of the next" if self.part is not None else ""
        return f"epoch {len(self.history)}{within}"

    def monitored(self, row: Row) -> float:
        """Return `recipe.monitor` of an epoch, as validation gave it."""
        return row[f"val_{self.recipe.monitor}"]

    def finish_epoch(self, row: Row) -> None:
        """Take an epoch's history row in: update schedule, history, best epoch and best weights."""
        self.schedule.after_epoch(self.monitored(row))
        self.history.append(row)
        if self.best_epoch == 0 or self._improves(row, self.history[self.best_epoch - 1]):
            self.best_epoch = len(self.history)
            if self.recipe.keep == "best":
                self.best_weights = weights_of(self.judged)

    def _improves(self, row: Row, best: Row) -> bool:
        """Return whether an epoch's monitored figure is better than the best."""
        gain = self.monitored(row) - self.monitored(best)
        return gain > 0 if self.recipe.monitor == "dice" else gain < 0

    def kept(self) -> tuple[int, dict[str, Tensor]]:
        """Return the epoch that `recipe.keep` names, and its weights."""
        if self.recipe.keep == "best":
            return self.best_epoch, self.best_weights
        return len(self.history), weights_of(self.judged)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state's tensors, named for a file."""
        groups: dict[str, dict[str, Tensor]] = {"network": self.network.state_dict(), "best": self.best_weights}
        if self.average is not None:
            groups["average"] = self.average.state_dict()
        for index, values in self.optimizer.state_dict()["state"].items():
            groups[f"optimizer/{index}"] = values
        if self.part is not None:
            groups["part"] = {"generator": self.part.generator, "losses": self.part.losses_RP}
            groups["random"] = self.part.random_R
        return {f"{group}/{name}": tensor for group, named in groups.items() for name, tensor in named.items()}

    def record(self) -> dict[str, Any]:
        """Return the state's other values, as JSON."""
        return {
            "param_groups": self.optimizer.state_dict()["param_groups"],
            "schedule": self.schedule.state_dict(),
            "history": self.history,
            "best_epoch": self.best_epoch,
            "step": self.part.step if self.part is not None else 0,
        }

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Go back to the state that `tensors` and `record` were taken of."""
        self.network.load_state_dict(_group(tensors, "network"))
        if self.average is not None:
            self.average.load_state_dict(_group(tensors, "average"))
        self.best_weights = _group(tensors, "best")
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        moments = {
            index: {name: _laid_out(value, like) for name, value in _group(tensors, f"optimizer/{index}").items()}
            for index, like in enumerate(parameters)
        }
        self.optimizer.load_state_dict({"state": moments, "param_groups": record["param_groups"]})
        self.schedule.load_state_dict(record["schedule"])
        self.history = record["history"]
        self.best_epoch = record["best_epoch"]
        part = _group(tensors, "part")
        self.part = (
            EpochPart(record["step"], part["generator"], _group(tensors, "random"), part["losses"]) if part else None
        )


def weights_of(network: torch.nn.Module) -> dict[str, Tensor]:
    """Return a copy of the state dict on the CPU, as a file holds it."""
    return {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
        for name, tensor in network.state_dict().items()
    }


def seed_epoch(seed: int, epoch: int) -> Generator:
    """Seed dropout for an epoch, and return the generator of its order and augmentation.

    Args:
        seed: `recipe.seed`.
        epoch: 1-based; 0 seeds the initial weights.
    """
    first, second = (int(word) for word in np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint64))
    torch.manual_seed(first)
    return Generator().manual_seed(second)


def _group(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    """Return the tensors of a group, without its prefix."""
    prefix = f"{group}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """Return a tensor in the memory layout of its parameter, as before the save.

    Another layout could round sums differently.
    """
    return torch.empty_like(like).copy_(value) if value.shape == like.shape else value
