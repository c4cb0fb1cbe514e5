"""Moving the alias `champion`, so that the ledger knows of it whatever breaks in between."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING

from segops.contracts.decision import Decision
from segops.errors import UserError
from segops.locks import signals_wait
from segops.params.tracking import TrackingParams
from segops.progress import say
from segops.tracking import faults, pages, registry, store
from segops.tracking.ledger import ABANDONED_S, Ledger
from segops.tracking.ledger_snapshot import Snapshot

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ATTEMPTS = 3
_PAUSE_S = 0.5
_SOON_S = ABANDONED_S / 3  # others may take this process for dead after ABANDONED_S; a request takes up to 30 s


def move_champion(
    client: MlflowClient, ledger: Ledger, snapshot: Snapshot, decision: Decision, tracking: TrackingParams
) -> Decision:
    """Claim the decision's number, write its entry, move the alias, and close the entry by what the alias then says.

    An error, a signal or a lost answer says nothing about the alias, so it is read before the entry is closed. Where it
    can't be read, or the request may still be on its way, the entry stays open and the next command settles it.

    Args:
        snapshot: what the decision rests on.

    Returns:
        The decision with the number that it got.

    Raises:
        UserError: somebody else was first, or the alias was moved meanwhile; nothing was changed.
    """
    began = time.time()
    assert decision.number is not None
    with signals_wait():
        decision = decision.model_copy(update={"number": ledger.claim(decision.number)})
        entry = ledger.open(decision, snapshot)
        try:
            _refuse_unless_as_read(client, decision, began)
        except BaseException:
            ledger.close(entry, counts=False)
            raise
        _move(client, ledger, entry, decision)
    _show(client, tracking)
    return decision


def _show(client: MlflowClient, tracking: TrackingParams) -> None:
    """Show the aliases in the table of runs. The decision stands whatever becomes of that."""
    try:
        pages.show_aliases(client, tracking)
    except Exception as error:
        say(f"MLflow's table of runs shows the aliases of before ({store.reason(error)}); `segops ui` renews it")


def _refuse_unless_as_read(client: MlflowClient, decision: Decision, began: float) -> None:
    """Raise UserError if the champion changed since the decision was made, or MLflow took too long."""
    champion = _champion(client, decision)
    if champion != decision.from_version:
        raise UserError(f"the champion became version {champion} meanwhile; nothing was changed: run the command again")
    if time.time() - began > _SOON_S:
        raise UserError("MLflow answers too slowly for a decision; nothing was changed: run the command again")


def _move(client: MlflowClient, ledger: Ledger, entry: str, decision: Decision) -> None:
    """Move the alias, retrying where an answer was lost and it hasn't moved, and close the entry."""
    for attempt in count(1):
        error = _sent(client, decision)
        try:
            champion = decision.to_version if error is None else _champion(client, decision)
        except Exception:
            _say(decision, unknown=True)
            raise (error or AssertionError) from None
        if champion == decision.to_version:
            _close(ledger, entry, decision)
            if error is None or isinstance(error, Exception):
                return
            _say(decision)
            raise error
        assert error is not None
        refused = isinstance(error, Exception) and not faults.answer_lost(error)
        if refused or champion != decision.from_version:
            ledger.close(entry, counts=False)
            raise error
        if attempt == _ATTEMPTS or not isinstance(error, Exception):
            _say(decision, unknown=True)
            raise error
        time.sleep(_PAUSE_S)


def _sent(client: MlflowClient, decision: Decision) -> BaseException | None:
    """Request the move once and return the error, or None if it succeeded."""
    try:
        with store.unrepeated():
            registry.set_alias(client, decision.model_name, registry.CHAMPION, decision.to_version)
    except BaseException as error:
        return error
    return None


def _champion(client: MlflowClient, decision: Decision) -> int | None:
    """Ask the registry which version is champion."""
    return registry.alias(client, decision.model_name, registry.CHAMPION)


def _close(ledger: Ledger, entry: str, decision: Decision) -> None:
    """Close the entry; if that fails, print that the decision counts all the same, as the alias tells later readers."""
    try:
        ledger.close(entry)
    except BaseException:
        _say(decision)
        raise


def _say(decision: Decision, *, unknown: bool = False) -> None:
    """Print that the decision was made despite an error, or that its outcome isn't known yet."""
    number, version = decision.number, decision.to_version
    if unknown:
        say(
            f"whether version {version} became the champion isn't known yet: decision {number} stays open, and "
            "`segops history` settles it"
        )
    else:
        say(f"decision {number} was made all the same: champion is version {version}")
