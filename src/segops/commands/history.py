"""Reads the history: who promoted what, when and why.

A person's command, not a graph stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segops.errors import UserError
from segops.params.tracking import TrackingParams
from segops.progress import say

if TYPE_CHECKING:
    from segops.tracking.ledger_snapshot import Snapshot


def history(tracking: TrackingParams) -> Snapshot:
    """Read every decision and refusal about the registered model, oldest first; settle what dead processes left."""
    from segops.tracking import store
    from segops.tracking.ledger import Ledger

    client = store.client(tracking)
    with store.answering():
        return Ledger(client, tracking).settled()


def refuse_problems(snapshot: Snapshot) -> None:
    """Raise UserError where entries were changed or removed, or the alias is where no decision put it."""
    first, *others = [*snapshot.problems(), ""]
    for other in others[:-1]:
        say(other)
    if first:
        raise UserError(first)
