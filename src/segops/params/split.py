"""Defines how it is decided which images are never seen in training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from segops.params.section import Fraction, Section

SplitProtocol = Literal["grouped", "published", "given"]


class SplitParams(Section):
    """Which images are never seen in training."""

    protocol: SplitProtocol = Field(
        "grouped",
        description="grouped: no group on two sides; published: train_test_split twice on sorted ids; given: the "
        "subsets that the data come with (ingest.subset_folders, or a table's column), val out of train if missing",
    )
    fractions: tuple[Fraction, Fraction, Fraction] = Field((0.70, 0.15, 0.15), description="train, val, test")
    folds: int = Field(5, ge=2, le=20, description="cross-validation folds among the images outside test")
    fold: int | None = Field(
        None, ge=0, description="val is this fold, train the others; null: val and train by `fractions`"
    )
    seed: int = Field(0, ge=0, description="grouped: names the assignment; growth never moves a group under one seed")

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitParams:
        """Refuse fractions that are not positive or do not sum to 1, and a fold that does not exist."""
        if abs(sum(self.fractions) - 1) > 1e-6 or min(self.fractions) <= 0:
            raise ValueError(f"fractions {self.fractions} must be positive and sum to 1")
        if self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold}: the {self.folds} folds are 0 to {self.folds - 1}")
        return self
