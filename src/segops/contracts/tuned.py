"""Defines what tune writes: the values that a search found."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, ValidationError

from segops.contracts.base import Share
from segops.errors import UserError
from segops.files import readable, write_text
from segops.params.section import Value


class Gain(Value):
    """Validation Dice of tuned values and of the candidate's own, each seed once."""

    seeds: list[int] = Field(min_length=1)
    best: list[Share] = Field(description="with the best trial's values, by seed")
    default: list[Share] = Field(description="with the candidate's own, by seed")

    @property
    def differences(self) -> list[float]:
        """Best minus default, by seed."""
        return [best - default for best, default in zip(self.best, self.default, strict=True)]

    @property
    def mean(self) -> float:
        """The mean of the differences."""
        return math.fsum(self.differences) / len(self.seeds)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the differences (n - 1); None for a single seed."""
        return statistics.stdev(self.differences) if len(self.seeds) > 1 else None


class TunedCandidate(Value):
    """What a search found for a candidate."""

    schema_version: Literal[1] = 1
    values: dict[str, Any] = Field(description="by dotted path, to put into the candidate's params; may be none")
    study: str
    trial: int = Field(ge=0, description="the trial that the values are of; 0: the candidate as it is")
    score: Share = Field(description="that trial's validation Dice")
    default_score: Share | None = Field(description="the defaults' validation Dice in trial 0; null: it failed")
    milliseconds: float | None = Field(None, description="per image, where that was an objective")
    gain: Gain | None = Field(None, description="null: the defaults were best, or confirm_seeds is 0")
    rejected: int | None = Field(None, description="a trial that scored higher, but didn't lead over the seeds")


class Tuned(Value):
    """best.yaml: tuned values by candidate; null, written `{}`, for a candidate that isn't searched.

    Not a `Contract`: its keys are the candidates, so that dvc.yaml can name a candidate's part.
    """

    FILE: ClassVar[str] = "best.yaml"
    candidates: dict[str, TunedCandidate | None]

    @classmethod
    def load(cls, folder: Path) -> Tuned:
        """Read `folder/best.yaml`. Raises UserError when it is missing or doesn't fit."""
        path = folder / cls.FILE
        try:
            with readable(path, "YAML file", "delete it and run `segops tune` again"):
                raw = yaml.safe_load(path.read_text(encoding="utf-8"))
            return cls(candidates={name: part or None for name, part in raw.items()})
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; run `segops tune` first (`dvc repro`)") from None
        except (ValidationError, AttributeError, TypeError):
            raise UserError(f"{path}: not what `segops tune` writes; delete it and run `segops tune` again") from None

    def save(self, folder: Path) -> None:
        """Write `folder/best.yaml` atomically."""
        parts = {name: {} if part is None else part.model_dump(mode="json") for name, part in self.candidates.items()}
        write_text(folder / self.FILE, yaml.safe_dump(parts, sort_keys=False))

    def of(self, candidate: str, folder: Path) -> TunedCandidate | None:
        """Return a candidate's part. Raises UserError where the file doesn't know the candidate."""
        if candidate not in self.candidates:
            raise UserError(f"{folder / self.FILE} doesn't have candidate '{candidate}'; run `segops tune` again")
        return self.candidates[candidate]


class TunedValues(Value):
    """Where a model's tuned params come from."""

    study: str
    trial: int
    values: dict[str, Any]
