"""Defines what the ledger holds: decisions about the champion, and the chain of hashes that ties them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from segops.contracts.base import Sha256
from segops.files import sha256_lines
from segops.params.section import Value


class Check(Value):
    """A question of the gate and its answer."""

    name: str
    passed: bool | None = Field(description="null: shown and not judged")
    value: float | None = Field(None, description="the number that was compared")
    limit: float | None = None
    detail: str


class Decision(Value):
    """An entry of the ledger. With defaults for what is added, so that old entries can be read."""

    number: int | None = Field(description="decisions that move the champion are numbered; others only read the test")
    action: Literal["promote", "rollback", "refused", "declined"]
    override: bool = Field(False, description="promoted though checks failed; the reason says why")
    model_name: str
    candidate: str | None = None
    from_version: int | None
    to_version: int
    by_hand: bool = Field(
        False, description="the alias was on from_version, to which no decision had moved it: somebody did by hand"
    )
    who: str
    when: str = Field(description="UTC, ISO 8601")
    reason: str | None = Field(None, max_length=1000)
    checks: list[Check] = Field([])
    key: str | None = Field(None, description="hash of params, data and code, which names the candidate's run")
    git_commit: str | None = None
    weights_sha256: str | None = None
    manifest_sha256: str | None = None
    test_sha256: str | None = None
    metrics_sha256: str | None = Field(None, description="of metrics.json as the gate read it")
    per_image_sha256: str | None = Field(None, description="of per_image.csv as the gate read it")
    test_reads: int = Field(0, ge=0, description="how often the gate had read this test set, this time included")
    previous: list[Sha256] = Field([], description="of the lines before it that no other line names")

    @property
    def moves(self) -> bool:
        """Whether it changes who is the champion."""
        return self.action in ("promote", "rollback")

    @property
    def failed(self) -> list[Check]:
        """The checks that weren't passed."""
        return [check for check in self.checks if check.passed is False]

    @property
    def title(self) -> str:
        """The name of the entry in a sentence."""
        return f"decision {self.number}" if self.number is not None else f"the {self.action} entry"


def heads(lines: Sequence[str]) -> list[str]:
    """Return the SHA-256 of the lines that no other line names."""
    named = {sha256 for line in lines for sha256 in Decision.model_validate_json(line).previous}
    return [sha256 for line in lines if (sha256 := sha256_lines([line])) not in named]


def break_of(lines: Sequence[str]) -> str | None:
    """Word where the chain breaks: the first entry that follows an entry changed or removed; None if whole."""
    present = {sha256_lines([line]) for line in lines}
    for line in lines:
        entry = Decision.model_validate_json(line)
        if lost := [sha256 for sha256 in entry.previous if sha256 not in present]:
            return (
                f"{entry.title} of {entry.when} follows an entry {lost[0][:12]} that was changed or removed afterwards"
            )
    return None
