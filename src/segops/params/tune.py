"""Defines the params of the search for hyperparameters."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from segops.params.section import Section
from segops.secrets import holds_secret

Objective = Literal["dice", "milliseconds"]
STORAGE_VARIABLE = "SEGOPS_TUNE_STORAGE"
_MOST_CHOICES = 1000  # of a range that grid walks, and of trials


class Dimension(Section):
    """The values that a search tries for a param: a range of floats, a range of ints, or a list of choices."""

    float_: tuple[float, float] | None = Field(None, alias="float", description="lowest and highest value, of a float")
    int_: tuple[int, int] | None = Field(None, alias="int", description="lowest and highest value, of an int")
    categorical: Annotated[list[Any], Field(min_length=1)] | None = Field(
        None, description="choices of any kind; a tuple such as dilations is one choice"
    )
    log: bool = Field(False, description="of a range: uniform in the logarithm")
    step: float | None = Field(None, gt=0, description="of a range: distance of the values from one another")
    when: dict[str, Any] = Field({}, description="only where these params, by dotted path, have these values")

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        """Refuse a range that is not exactly one of float, int and categorical, and wrong ends or choices."""
        if sum(kind is not None for kind in (self.float_, self.int_, self.categorical)) != 1:
            raise ValueError("give exactly one of float: [low, high], int: [low, high], categorical: [choices]")
        if self.categorical is not None:
            self._check_choices(self.categorical)
        else:
            self._check_range(*self.ends)
        return self

    def _check_choices(self, choices: list[Any]) -> None:
        """Raise ValueError for choices with a log or step, or a choice that is listed twice."""
        if self.log or self.step is not None:
            raise ValueError("log and step are for ranges of float or int, not for categorical")
        if any(choice in choices[:number] for number, choice in enumerate(choices)):
            raise ValueError("a choice stands twice in categorical")

    def _check_range(self, low: float, high: float) -> None:
        """Raise ValueError for an empty range, or a log or step that doesn't fit it."""
        if low >= high:
            raise ValueError(f"the range [{low:g}, {high:g}] is empty; the first value must be the lower one")
        if self.log and low <= 0:
            raise ValueError(f"a log range can't reach {low:g}: both ends must lie above zero")
        if self.log and self.step is not None:
            raise ValueError("a log range has no step; drop one of the two")
        if self.step is not None and self.int_ is not None and self.step != int(self.step):
            raise ValueError(f"step {self.step:g} of an int range must be an int")
        if self.step is not None and self.step > high - low:
            raise ValueError(f"step {self.step:g} is wider than the range [{low:g}, {high:g}]")

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest value of a range."""
        ends = self.int_ or self.float_
        assert ends is not None
        return ends

    @property
    def points(self) -> list[Any] | None:
        """All values, where they can be counted: choices, ints, floats with a step. None for other ranges."""
        if self.categorical is not None:
            return self.categorical
        if self.step is None and (self.int_ is None or self.log):
            return None
        (low, high), step = self.ends, self.step or 1
        count = int((high - low) / step * (1 + 1e-12)) + 1
        values = [min(low + step * number, high) for number in range(count)]
        return [int(value) for value in values] if self.int_ is not None else values

    def holds(self, value: Any) -> bool:
        """Return whether a number lies in the range and on its steps, or a value is among the choices."""
        if self.categorical is not None:
            return value in self.categorical
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low, high = self.ends
        near = 1e-9 * (high - low)
        return low <= value <= high and (
            self.points is None or any(abs(value - point) <= near for point in self.points)
        )


class SearchParams(Section):
    """The search for a candidate's hyperparameters."""

    space: dict[str, Dimension] = Field(
        min_length=1, description="values to try, by the param's dotted path in the candidate"
    )
    trials: int = Field(20, ge=1, le=_MOST_CHOICES, description="most trials, over all workers; the defaults are one")
    minutes: float | None = Field(
        None, gt=0, description="most minutes of trials, times workers; cut off at an epoch's end; null: no limit"
    )
    epochs: int | None = Field(None, ge=1, le=10_000, description="epochs of a trial; null: the candidate's own")
    study: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="the study's name before its hash; null: the candidate's"
    )


class TuneParams(Section):
    """How hyperparameters are searched for. Validation decides, never test."""

    _own_refusal: ClassVar = frozenset({"storage"})

    searches: dict[str, SearchParams] = Field({}, description="searches by candidate; others keep their params")
    objectives: list[Objective] = Field(
        ["dice"],
        min_length=1,
        max_length=2,
        description="dice: of validation; with milliseconds an image beside it: a Pareto front, without pruning",
    )
    dice_margin: float = Field(
        0.005, ge=0, lt=1, description="of two objectives: the fastest trial so little below the best Dice is taken"
    )
    sampler: Literal["tpe", "cmaes", "random", "grid", "nsga2"] = Field(
        "tpe", description="how trials are drawn; grid: every combination of choices, ints and steps"
    )
    pruner: Literal["median", "hyperband", "percentile", "none"] = Field(
        "median", description="when an unpromising trial ends early; the defaults' never does"
    )
    workers: int = Field(1, ge=1, le=64, description="processes that share a study, and runtime.threads")
    storage: str | None = Field(
        None,
        description=f"null: a journal file in .segops/tuning; sqlite:///file; postgresql://user@host/database; one "
        f"with a password: in {STORAGE_VARIABLE}, or the password in PGPASSWORD",
    )
    heartbeat_s: int = Field(
        30, ge=1, le=3600, description="of sqlite and PostgreSQL: a worker silent for three of these counts as dead"
    )
    seed: int = Field(0, ge=0, description="of the sampler; equal seeds give equal trials on one worker")
    confirm_seeds: int = Field(
        3, ge=0, le=20, description="trainings each of the best trial and the defaults, to see whether the gain is real"
    )

    @model_validator(mode="after")
    def _fitting(self) -> TuneParams:
        """Refuse a storage with a password, and objectives that pruner or sampler can't take."""
        if self.storage is not None:  # here, since an error of the field itself would show the password
            check_storage(self.storage, secret=False)
        if "dice" not in self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives are [dice] or [dice, milliseconds]")
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ValueError(
                "two objectives can't be pruned: an epoch's Dice says nothing of milliseconds; set tune.pruner: none"
            )
        if len(self.objectives) > 1 and self.sampler == "cmaes":
            raise ValueError("cmaes takes one objective; set tune.sampler: nsga2 or tpe")
        return self


def check_storage(url: str, *, secret: bool) -> str:
    """Return the URL of a storage. Raises ValueError for a wrong URL, or a password that it must not hold.

    Args:
        secret: whether it may hold a password, which is never repeated in the error.
    """
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] not in ("sqlite", "postgresql"):
        raise ValueError("storage: sqlite:///file, postgresql://user@host/database, or null for a journal file")
    if not secret and (parts.password is not None or holds_secret(url)):
        raise ValueError(f"storage holds a password; take it out here and set the whole URL in {STORAGE_VARIABLE}")
    return url
