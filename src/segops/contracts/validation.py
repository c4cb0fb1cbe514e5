"""Defines what validate writes: its report."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from segops.contracts.base import Contract, Sha256
from segops.params.section import Value


class Expectation(Value):
    """The outcome of an expectation on the manifest."""

    name: str
    severity: Literal["critical", "warning"]
    success: bool
    detail: str = Field(description="what was expected and what was seen, in a line")
    failing_ids: list[str] = Field(description="image ids, sorted; empty for a table-wide expectation")
    evidence: dict[str, str] = Field({}, description="what speaks against a failing image, where its id doesn't say it")


class ValidationReport(Contract):
    """report.json: may this data train a model."""

    FILE: ClassVar[str] = "report.json"
    manifest_sha256: Sha256
    images: int
    success: bool = Field(description="no critical failure")
    expectations: list[Expectation] = Field(min_length=1)
