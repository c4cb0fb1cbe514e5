"""What a search's trials are to those who show them: tables, pages, MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["waiting", "running", "complete", "pruned", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a study.

    Attributes:
        number: in its study; 0 is the candidate as it is.
        slot: its place in the budget; a retry of a dead worker's trial has that trial's.
        values: by dotted path of the candidate's params.
        dice: on validation, of the epoch whose weights training keeps; None unless complete.
        milliseconds: an image at the candidate's size; None where that isn't an objective.
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
        """Whether nothing more will come of it."""
        return self.state in ("complete", "pruned", "failed")


def complete(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Those that have a score."""
    return [one for one in trials if one.state == "complete"]


def pareto_front(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The complete trials that no other one beats in both Dice and milliseconds, the best Dice first."""
    front: list[TrialRecord] = []
    for one in sorted(complete(trials), key=lambda one: (-_dice(one), _milliseconds(one), one.number)):
        if not front or _milliseconds(one) < _milliseconds(front[-1]):
            front.append(one)
    return front


def best(trials: Iterable[TrialRecord], *, dice_margin: float) -> TrialRecord | None:
    """The trial to take; None where none is complete. Of equal ones the first.

    With one objective the best Dice. With milliseconds beside it the fastest of those at most `dice_margin` below the
    best Dice and not below the defaults' (trial 0).
    """
    scored = complete(trials)
    if not scored:
        return None
    top = max(scored, key=lambda one: (_dice(one), -one.slot))
    if top.milliseconds is None:
        return top
    own = max((_dice(one) for one in scored if one.slot == 0), default=0.0)
    enough = [one for one in scored if _dice(one) >= max(_dice(top) - dice_margin, own)]
    return min(enough, key=lambda one: (_milliseconds(one), -_dice(one), one.slot))


def _dice(one: TrialRecord) -> float:
    assert one.dice is not None, "a complete trial has a Dice"
    return one.dice


def _milliseconds(one: TrialRecord) -> float:
    return one.milliseconds if one.milliseconds is not None else 0.0
