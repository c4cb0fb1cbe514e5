"""Checks that the alias `champion` and its weights are what the ledger says, and moves the alias back if asked."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segops.contracts.decision import Decision
from segops.errors import UserError
from segops.tracking import promoted, store
from segops.tracking.champion import move_champion
from segops.tracking.ledger import Ledger, now
from segops.tracking.registry import CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from segops.params.tracking import TrackingParams
    from segops.tracking.ledger_snapshot import Snapshot

Status = Literal["agrees", "moved", "weights", "ledger", "reverted"]


@dataclass(frozen=True)
class Finding:
    """Holds what a look at the registry found.

    Attributes:
        status: `agrees`; `moved`: no decision put the alias where it is; `weights`: the champion's files aren't
            those that were promoted; `ledger`: entries were changed, removed or not signed; `reverted`: the alias was
            moved back.
        champion: the version that the alias names.
        expected: the version that the ledger's last decision made the champion.
        decision: that decision's number.
        text: one line for people.
    """

    status: Status
    champion: int | None
    expected: int | None
    decision: int | None
    text: str


def look(client: MlflowClient, tracking: TrackingParams, *, weights: bool) -> Finding:
    """Compare the alias with the ledger and report the first thing that is wrong.

    Args:
        weights: fetch the champion's files too and compare them with what was registered and promoted.

    Raises:
        TryAgainError: MLflow is away, or the files' store.
    """
    with store.answering():
        snapshot = Ledger(client, tracking).read()
    if damages := snapshot.damages():
        return _finding(snapshot, "ledger", damages[0])
    if snapshot.by_hand:
        return _finding(snapshot, "moved", snapshot.problems()[0])
    if snapshot.champion is None:
        return _finding(snapshot, "agrees", f"'{snapshot.model_name}' has no champion, and the ledger has none")
    if weights and (wrong := _wrong_weights(tracking)):
        return _finding(snapshot, "weights", wrong)
    made = snapshot.moves[-1].number
    return _finding(snapshot, "agrees", f"champion is version {snapshot.champion} by decision {made}")


def revert(client: MlflowClient, tracking: TrackingParams) -> Finding:
    """Move the alias back to the ledger's champion, by a decision of its own, if it still names another version.

    Raises:
        UserError: somebody is deciding right now, the alias moved meanwhile, the ledger is damaged, or MLflow
            refuses this to the account; the alias stays.
        TryAgainError: MLflow is away.
    """
    with store.answering():
        ledger = Ledger(client, tracking)
        snapshot = ledger.settled()
        if snapshot.damages() or not snapshot.by_hand or snapshot.champion is None:
            return look(client, tracking, weights=False)
        promoted_by = snapshot.moves[-1]
        decision = Decision(
            number=snapshot.next_number,
            action="rollback",
            model_name=snapshot.model_name,
            candidate=promoted_by.candidate,
            from_version=snapshot.alias,
            to_version=snapshot.champion,
            by_hand=True,
            who=f"segops watch@{platform.node()}",
            when=now(),
            reason=f"the alias stood where no decision had put it; decision {promoted_by.number} holds",
            key=promoted_by.key,
            git_commit=promoted_by.git_commit,
            weights_sha256=promoted_by.weights_sha256,
            manifest_sha256=promoted_by.manifest_sha256,
            test_sha256=promoted_by.test_sha256,
        )
        made = move_champion(client, ledger, snapshot, decision, tracking)
    before = f"version {snapshot.alias}" if snapshot.alias is not None else "no version"
    text = f"the alias stood on {before} by no decision; decision {made.number} moved it back to {made.to_version}"
    return Finding("reverted", made.to_version, made.to_version, made.number, text)


def _wrong_weights(tracking: TrackingParams) -> str | None:
    """Say why the champion's files aren't believed; return None if they are. Raises if the store is away."""
    with tempfile.TemporaryDirectory(prefix="segops-") as scratch:
        try:
            promoted.fetch(tracking, CHAMPION, Path(scratch))
        except UserError as error:
            return str(error)
    return None


def _finding(snapshot: Snapshot, status: Status, text: str) -> Finding:
    """Build a finding from the snapshot's champion, alias and last move."""
    made = snapshot.moves[-1] if snapshot.moves else None
    return Finding(status, snapshot.alias, snapshot.champion, made.number if made else None, text)
