"""Defines what a pod writes that works on a range alone: its part, before the parts are joined."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract, Sha256


class PartRecord(Contract):
    """part.json: which part of which work lies in the folder, and the hashes of its files."""

    FILE: ClassVar[str] = "part.json"
    stage: str
    number: int = Field(ge=0)
    parts: int = Field(ge=1, description="how many there are")
    work: Sha256 = Field(description="of all that the work is made of: params and the files that it reads")
    files: dict[str, Sha256] = Field(description="in the folder, by name")
