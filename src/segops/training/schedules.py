"""Sets the learning rate over time, with the same interface for schedules by step and by epoch."""

from __future__ import annotations

from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

from segops.params.recipe import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    PolySchedule,
    RecipeParams,
    StepSchedule,
)


class Schedule:
    """Moves the learning rate of an optimizer: up through `recipe.warmup_epochs`, then by `recipe.schedule`.

    Args:
        optimizer: made with `recipe.learning_rate`.
        recipe: `schedule`, `warmup_epochs`, `learning_rate`, `epochs`, `monitor`, `optimizer`.
        steps_per_epoch: optimizer steps in an epoch.
    """

    def __init__(self, optimizer: Optimizer, recipe: RecipeParams, steps_per_epoch: int) -> None:
        self.optimizer = optimizer
        self._by_step = isinstance(recipe.schedule, CosineSchedule | OneCycleSchedule)
        self._scheduler = _scheduler(optimizer, recipe, recipe.epochs - recipe.warmup_epochs, steps_per_epoch)
        self._begin = self.learning_rate  # where the schedule begins
        self._warmup_epochs, self._warmup_steps = recipe.warmup_epochs, recipe.warmup_epochs * steps_per_epoch
        self._warm_epochs, self._warm_steps = 0, 0  # done
        self._warm_up()

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def after_step(self) -> None:
        """Move the learning rate after an optimizer step: warm-up, or a schedule by step."""
        if self._warm_steps < self._warmup_steps:
            self._warm_steps += 1
            self._warm_up()
        elif self._by_step:
            self._scheduler.step()

    def after_epoch(self, monitored: float) -> None:
        """Move the learning rate at an epoch's end, by `recipe.monitor` on validation where the schedule needs it."""
        if self._warm_epochs < self._warmup_epochs:
            self._warm_epochs += 1
        elif isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(monitored)
        elif not self._by_step:
            self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON values (a plateau that saw nothing yet holds an infinity)."""
        warm = {"warm_epochs": self._warm_epochs, "warm_steps": self._warm_steps}
        return {**warm, "scheduler": self._scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a schedule made with the same arguments; the optimizer's state is loaded apart."""
        self._warm_epochs, self._warm_steps = state["warm_epochs"], state["warm_steps"]
        self._scheduler.load_state_dict(state["scheduler"])

    def _warm_up(self) -> None:
        """Raise the rate on a straight line from 1 step above 0 to the schedule's beginning (Goyal et al. 2017)."""
        if self._warmup_steps:
            for group in self.optimizer.param_groups:
                group["lr"] = self._begin * (self._warm_steps + 1) / (self._warmup_steps + 1)


def _scheduler(optimizer: Optimizer, recipe: RecipeParams, epochs: int, steps_per_epoch: int) -> LRScheduler:
    """Build torch's scheduler of `recipe.schedule` over the epochs after warm-up."""
    steps = epochs * steps_per_epoch
    match recipe.schedule:
        case ConstantSchedule():
            return LambdaLR(optimizer, lambda _: 1.0)
        case StepSchedule(every=every, factor=factor):
            return StepLR(optimizer, every, factor)
        case ExponentialSchedule(factor=factor):
            return ExponentialLR(optimizer, factor)
        case PolySchedule(power=power):
            return PolynomialLR(optimizer, epochs, power)
        case PlateauSchedule(factor=factor, patience=patience, min_learning_rate=least):
            mode: Literal["min", "max"] = "max" if recipe.monitor == "dice" else "min"
            # torch lowers the rate an epoch after its patience, and takes a gain below 1e-4 for none; early stopping,
            # and with it `patience`, doesn't.
            return ReduceLROnPlateau(optimizer, mode, factor, patience - 1, threshold=0, min_lr=least)
        case CosineSchedule(min_learning_rate=least):
            return CosineAnnealingLR(optimizer, steps, least)
        case OneCycleSchedule(warmup=warmup):
            return _one_cycle(optimizer, recipe, steps, warmup)


def _one_cycle(optimizer: Optimizer, recipe: RecipeParams, steps: int, warmup: float) -> OneCycleLR:
    # A rise of exactly 1 step makes OneCycleLR divide by zero.
    """Build torch's one-cycle schedule, whose rise and momentum are as the recipe says."""
    rise = warmup + 1e-9 if warmup * steps == 1 else warmup
    # torch's cycle of momentum acts on Adam's beta 1; SGD keeps the momentum that the recipe names.
    cycle = recipe.optimizer != "sgd"
    return OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=rise, cycle_momentum=cycle)
