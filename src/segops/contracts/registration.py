"""Defines what register writes: a version of the registered model, or the floor that was missed."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract, Sha256


class Registration(Contract):
    """registration.json: a model version with its lineage, or the floor it missed."""

    FILE: ClassVar[str] = "registration.json"
    candidate: str
    key: Sha256
    weights_sha256: Sha256
    registered: bool
    reason: str | None = Field(None, description="the floor that was missed, or why it can't be a version")
    model_name: str
    version: int | None = None
    git_commit: str | None = Field(None, description="the commit that the run was made at; null: not known")
    git_dirty: bool | None = Field(None, description="whether files differed from it")
