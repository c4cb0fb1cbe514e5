"""Defines a search's trials for those who show them: tables, pages, MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["waiting", "running", "complete", "pruned", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """A trial of a study.

    Attributes:
        number: in its study; 0 is the candidate as it is.
        slot: its place in the budget; a retry of a dead worker's trial has that trial's.
        values: by dotted path of the candidate's params.
        dice: on validation, of the epoch whose weights training keeps; None unless complete.
        milliseconds: per image at the candidate's size; None where that isn't an objective.
        curve: validation Dice by epoch, as far as it came.
        reason: why it failed.
        key: of its training, see `training_key`; None before it began.
        made: whether it trained; False where its training was there already.
        seconds: from its start to its end.
    """

    number: int
    slot: int
    state: State
    values: dict[str, Any] = field(default_factory=dict)
    dice: float | None = None
    milliseconds: float | None = None
    curve: tuple[float, ...] = ()
    reason: str | None = None
    key: str | None = None
    made: bool = True
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether the trial has ended: nothing more will come of it."""
        return self.state in ("complete", "pruned", "failed")


def complete(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that have a score."""
    return [trial for trial in trials if trial.state == "complete"]


def pareto_front(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the complete trials that no other beats in both Dice and milliseconds, the best Dice first."""
    front: list[TrialRecord] = []
    for trial in sorted(complete(trials), key=lambda trial: (-_dice(trial), _milliseconds(trial), trial.number)):
        if not front or _milliseconds(trial) < _milliseconds(front[-1]):
            front.append(trial)
    return front


def best(trials: Iterable[TrialRecord], *, dice_margin: float) -> TrialRecord | None:
    """Return the trial to take; None where none is complete. Of equally good trials the first.

    With a single objective that is the best Dice. With milliseconds beside it, it is the fastest of those at most
    `dice_margin` below the best Dice and not below the defaults' (trial 0).
    """
    scored = complete(trials)
    if not scored:
        return None
    top = max(scored, key=lambda trial: (_dice(trial), -trial.slot))
    if top.milliseconds is None:
        return top
    own = max((_dice(trial) for trial in scored if trial.slot == 0), default=0.0)
    enough = [trial for trial in scored if _dice(trial) >= max(_dice(top) - dice_margin, own)]
    return min(enough, key=lambda trial: (_milliseconds(trial), -_dice(trial), trial.slot))


def _dice(trial: TrialRecord) -> float:
    """Return the Dice of a complete trial."""
    assert trial.dice is not None, "a complete trial has a Dice"
    return trial.dice


def _milliseconds(trial: TrialRecord) -> float:
    """Return a trial's milliseconds, 0 where that isn't an objective."""
    return trial.milliseconds if trial.milliseconds is not None else 0.0
