"""The learning rate over time, one interface for schedules by step and by epoch."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from segops.candidate_params import (
    ConstantSchedule,
    CosineSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    RecipeParams,
    StepSchedule,
)


class Schedule:
    """Moves the learning rate of an optimizer.

    Args:
        optimizer: made with `recipe.learning_rate`.
        recipe: `schedule`, `learning_rate`, `epochs`, `monitor`.
        steps_per_epoch: optimizer steps in an epoch.
    """

    def __init__(self, optimizer: Optimizer, recipe: RecipeParams, steps_per_epoch: int) -> None:
        self.optimizer = optimizer
        self._by_step = isinstance(recipe.schedule, CosineSchedule | OneCycleSchedule)
        self._scheduler = _scheduler(optimizer, recipe, recipe.epochs * steps_per_epoch)

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def after_step(self) -> None:
        """Call it after each optimizer step."""
        if self._by_step:
            self._scheduler.step()

    def after_epoch(self, monitored: float) -> None:
        """Call it at each epoch's end with `recipe.monitor` on validation."""
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(monitored)
        elif not self._by_step:
            self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """JSON values (a plateau that saw nothing yet holds an infinity)."""
        return dict(self._scheduler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The state of a schedule made with the same arguments; the optimizer's state must be loaded by itself."""
        self._scheduler.load_state_dict(state)


def _scheduler(optimizer: Optimizer, recipe: RecipeParams, steps: int) -> LRScheduler:
    match recipe.schedule:
        case ConstantSchedule():
            return LambdaLR(optimizer, lambda _: 1.0)
        case StepSchedule(every=every, factor=factor):
            return StepLR(optimizer, every, factor)
        case PlateauSchedule(factor=factor, patience=patience, min_learning_rate=least):
            return ReduceLROnPlateau(
                optimizer, "max" if recipe.monitor == "dice" else "min", factor, patience, min_lr=least
            )
        case CosineSchedule(min_learning_rate=least):
            return CosineAnnealingLR(optimizer, steps, least)
        case OneCycleSchedule(warmup=warmup):
            # A rise of exactly one step makes OneCycleLR divide by zero.
            rise = warmup + 1e-9 if warmup * steps == 1 else warmup
            return OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=rise)
