"""Defines what `segops noise` writes: how much scores differ by the seed alone."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from segops.contracts.base import Contract, Sha256, Share


class Noise(Contract):
    """noise.json: how far a candidate's validation Dice moves when nothing but the seed changes."""

    FILE: ClassVar[str] = "noise.json"
    candidate: str
    key: Sha256 = Field(description="of the candidate's model")
    seeds: list[int] = Field(min_length=2, description="of its own network; the first is the candidate's")
    val_dice: list[Share] = Field(description="by seed")
    deviation: float = Field(ge=0, description="standard deviation (n - 1)")
    floor: float = Field(ge=0, description="two trainings that differ by their seed alone lie closer in 95 % of cases")

    @model_validator(mode="after")
    def _a_dice_a_seed(self) -> Noise:
        if len(self.seeds) != len(self.val_dice) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"{len(self.seeds)} seeds and {len(self.val_dice)} scores: each seed is there once")
        return self
