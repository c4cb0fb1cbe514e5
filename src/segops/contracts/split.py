"""Defines what split writes: which images are never seen in training."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from segops.contracts.base import SUBSETS, Contract, Sha256, Share, Subset
from segops.params.section import Value
from segops.params.split import SplitProtocol


class SubsetSummary(Value):
    """What a subset holds: counts, modalities, foreground, hash."""

    images: int = Field(ge=1)
    groups: int = Field(ge=1)
    modalities: dict[str, int]
    mean_foreground: Share
    sha256: Sha256 = Field(description="of sorted lines of ids, hashes and spacings: equal iff the data are")


class Split(Contract):
    """split.json: which images are never seen in training.

    A grouped split in which a group is in two subsets can't be constructed.
    """

    FILE: ClassVar[str] = "split.json"
    protocol: SplitProtocol
    seed: int
    folds: int
    fold: int | None = Field(None, description="the fold that is val; null: val by fractions")
    manifest_sha256: Sha256
    assignment_sha256: Sha256 = Field(description="of split.parquet's rows")
    subsets: dict[Subset, SubsetSummary]
    groups_on_two_sides: int = Field(ge=0)
    images_sharing_a_group_with_train: dict[Literal["val", "test"], int]
    imbalance: float = Field(
        ge=0, description="largest gap between a stratum's share in a subset and the asked share; by fractions"
    )
    advice: str | None = Field(None, description="a better seed, if any")
    few_groups: str | None = Field(None, description="that val or test has few groups, and what to do")

    @property
    def test_sha256(self) -> str:
        """The test set's identity: versions are compared only on the same test set."""
        return self.subsets["test"].sha256

    @model_validator(mode="after")
    def _no_leak(self) -> Split:
        """Refuse missing subsets, and a grouped split with a group on two sides."""
        if set(self.subsets) != set(SUBSETS):
            raise ValueError(f"subsets must be {SUBSETS}")
        if self.protocol == "grouped" and self.groups_on_two_sides:
            raise ValueError(f"{self.groups_on_two_sides} groups are on two sides of a grouped split")
        return self
