"""The ledger of decisions: a run a decision, in an experiment of its own. Nothing in it is changed afterwards.

Each entry names the SHA-256 of those before it that no other entry named yet, as commits name their parents, so that a
later change or removal of an entry that another one follows is seen.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from segops.contracts import Sha256
from segops.errors import UserError
from segops.files import sha256_lines
from segops.params.tracking import TrackingParams
from segops.section import Value
from segops.tracking.store import experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_TAG = "segops.decision."  # an entry's JSON, in numbered pieces: MLflow cuts off what is longer than 8000 characters
_PIECE = 7000
_ABANDONED_S = 60.0  # a claim without an entry after this long belongs to a process that died


class Check(Value):
    """One question of the gate and its answer."""

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
    who: str
    when: str = Field(description="UTC, ISO 8601")
    reason: str | None = Field(None, max_length=1000)
    checks: list[Check] = Field([])
    key: str | None = Field(None, description="hash of params, data and code, which names the candidate's run")
    git_commit: str | None = None
    weights_sha256: str | None = None
    manifest_sha256: str | None = None
    test_sha256: str | None = None
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


class Ledger:
    """The decisions about one registered model."""

    def __init__(self, client: MlflowClient, tracking: TrackingParams) -> None:
        self._client = client
        self.model_name = tracking.model_name
        self._experiment = f"{tracking.experiment}-decisions"

    def entries(self) -> list[Decision]:
        """Every decision and every refusal, oldest first; one whose process died before its end doesn't count."""
        return [Decision.model_validate_json(line) for line in self.lines()]

    def lines(self) -> list[str]:
        """The entries as they were written: a line of JSON each, whose SHA-256 (with its `\\n`) later ones name."""
        return [_line(run) for run in self._runs() if run.info.status == "FINISHED"]

    def settle(self, champion: int | None) -> None:
        """Close what a dead process left open: it counts when the champion is the version that it was moving to."""
        for run in self._runs():
            old = time.time() - run.info.start_time / 1000 > _ABANDONED_S
            if run.info.status == "RUNNING" and old:
                moved_to = Decision.model_validate_json(_line(run)).to_version
                self.close(run.info.run_id, done=moved_to == champion)

    def _runs(self) -> list[Run]:
        found: list[Run] = []
        token: str | None = None
        while token != "":
            page = self._client.search_runs(
                [experiment_id(self._client, self._experiment)],
                filter_string=f"tags.model_name = '{self.model_name}'",
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found, token = [*found, *page], page.token or ""
        return found

    def next_number(self) -> int:
        """The number of the next decision. Read it before anything that the decision rests on."""
        return 1 + max((one.number for one in self.entries() if one.number is not None), default=0)

    def champions(self) -> list[int]:
        """The present champion last, before it those that a rollback returns to, one after another."""
        stack: list[int] = []
        for one in self.entries():
            if one.action == "promote":
                if one.from_version is not None and stack[-1:] != [one.from_version]:
                    stack.append(one.from_version)
                stack.append(one.to_version)
            elif one.action == "rollback":
                while one.to_version in stack and stack[-1] != one.to_version:
                    stack.pop()
                if one.to_version not in stack:
                    stack.append(one.to_version)
        return stack

    def former_champions(self) -> set[int]:
        """Every version that has been the champion, the present one too."""
        moves = [one for one in self.entries() if one.moves]
        return {version for one in moves for version in (one.from_version, one.to_version) if version is not None}

    def test_reads(self, test_sha256: str) -> int:
        """How often the gate has read a test set."""
        return sum(one.test_sha256 == test_sha256 and one.action != "rollback" for one in self.entries())

    def claim(self, number: int) -> int:
        """Take decision `number` for this process; of two at once one gets it.

        The claim is an experiment's name, which both kinds of store keep unique; it is deleted at once, since deleted
        names stay taken and don't clutter the pages. A dead process's claim is passed over.

        Raises:
            UserError: another decision was made, or is being made.
        """
        from mlflow.exceptions import MlflowException

        while True:
            name, mine = f"{self._experiment}/{self.model_name}/{number:06d}", uuid.uuid4().hex
            try:
                claimed = self._client.create_experiment(name, tags={"segops.claim": mine})
                self._client.delete_experiment(claimed)
                return number
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            holder = self._client.get_experiment_by_name(name)
            assert holder is not None
            if holder.tags.get("segops.claim") == mine:  # our own request, repeated after a lost answer
                return number
            self._refuse_unless_abandoned(number, time.time() - holder.creation_time / 1000)
            number += 1

    def _refuse_unless_abandoned(self, number: int, age_s: float) -> None:
        made = next((one for one in self.entries() if one.number == number), None)
        if made is not None:
            raise UserError(
                f"meanwhile {made.who} made decision {number} (champion is version {made.to_version}); nothing was "
                "changed: look at `segops history` and run the command again"
            )
        if age_s < _ABANDONED_S:
            raise UserError(
                f"another process is making decision {number} right now; nothing was changed: look at "
                "`segops history` in a minute and run the command again"
            )

    def open(self, decision: Decision) -> str:
        """Write an entry that counts once `close` is called; returns its run's id."""
        from mlflow.entities import Metric, Param

        line = decision.model_copy(update={"previous": heads(self.lines())}).model_dump_json()
        pieces = {f"{_TAG}{at:03}": line[at * _PIECE :][:_PIECE] for at in range(-(-len(line) // _PIECE))}
        title = f"decision {decision.number}: " if decision.number is not None else ""
        run = self._client.create_run(
            experiment_id(self._client, self._experiment),
            run_name=f"{title}{decision.action} version {decision.to_version}",
            tags={"model_name": self.model_name, "mlflow.user": decision.who, **pieces},
        )
        shown = ("number", "action", "override", "candidate", "from_version", "to_version", "who", "when", "reason")
        values = decision.model_dump(include=set(shown))
        self._client.log_batch(
            run.info.run_id,
            params=[Param(name, str(values[name])) for name in shown if values[name] is not None],
            metrics=[
                Metric(f"gate/{_plain(one.name)}", one.value, run.info.start_time, 0)
                for one in decision.checks
                if one.value is not None
            ],
        )
        return str(run.info.run_id)

    def close(self, run_id: str, *, done: bool = True) -> None:
        """Let an entry count, or mark it as failed."""
        self._client.set_terminated(run_id, "FINISHED" if done else "FAILED")

    def append(self, decision: Decision) -> None:
        """Write an entry that changes nothing but what is known."""
        self.close(self.open(decision))


def now() -> str:
    """The time for an entry."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def heads(lines: list[str]) -> list[str]:
    """The SHA-256 of the lines that no other line names."""
    named = {sha256 for line in lines for sha256 in Decision.model_validate_json(line).previous}
    return [sha256 for line in lines if (sha256 := sha256_lines([line])) not in named]


def break_of(lines: list[str]) -> str | None:
    """Where the chain breaks, in one line: the first entry that follows one which isn't there as it was written."""
    there = {sha256_lines([line]) for line in lines}
    for line in lines:
        entry = Decision.model_validate_json(line)
        if lost := [sha256 for sha256 in entry.previous if sha256 not in there]:
            what = f"decision {entry.number}" if entry.number is not None else f"the {entry.action} entry"
            return f"{what} of {entry.when} follows an entry {lost[0][:12]} that was changed or removed afterwards"
    return None


def _line(run: Run) -> str:
    return "".join(text for name, text in sorted(run.data.tags.items()) if name.startswith(_TAG))


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")
