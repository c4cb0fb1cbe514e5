"""Defines what compare writes: which candidate leads."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract, Sha256
from segops.contracts.scores import PairedDifference, Standing, SubgroupDifference
from segops.params.split import SplitProtocol


class Comparison(Contract):
    """comparison.json: which candidate leads, and is the lead real. Ranked on validation; test is shown."""

    FILE: ClassVar[str] = "comparison.json"
    test_sha256: Sha256
    protocol: SplitProtocol
    confidence: float
    decision: str = Field(description="what to do, in a sentence: `comparison.verdict.decision`")
    standings: list[Standing] = Field(min_length=1)
    differences: list[PairedDifference] = Field(description="every pair, the higher ranked first")
    subgroup_margin: float
    subgroups: list[SubgroupDifference] = Field(description="the leader against each other candidate")
    challenger: str | None = Field(description="the best registered candidate; it got the alias")
