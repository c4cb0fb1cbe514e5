"""history: who promoted what, when and why. A person's command, not a graph stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segops.errors import UserError
from segops.params.tracking import TrackingParams
from segops.progress import say

if TYPE_CHECKING:
    from segops.contracts.decision import Decision
    from segops.tracking.ledger_snapshot import Snapshot

_LINE_WIDTH = 140  # of a file or a pipe, characters


def history(tracking: TrackingParams) -> Snapshot:
    """Every decision and refusal about the registered model, oldest first; what dead processes left is settled."""
    from segops.tracking import store
    from segops.tracking.ledger import Ledger

    client = store.client(tracking)
    with store.answering():
        return Ledger(client, tracking).settled()


def refuse_problems(snapshot: Snapshot) -> None:
    """Raise UserError where entries were changed or removed, or the alias stands where no decision put it."""
    first, *others = [*snapshot.problems(), ""]
    for other in others[:-1]:
        say(other)
    if first:
        raise UserError(first)


def print_history(tracking: TrackingParams) -> None:
    """Print the ledger as a table on stdout. Raises as `refuse_problems` does."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    snapshot = history(tracking)
    if not snapshot.entries and not snapshot.problems():
        say(f"no decision about '{tracking.model_name}' yet; `segops promote challenger` makes the first")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("no.", "when (UTC)", "action", "champion"):
        table.add_column(name, no_wrap=True)
    for name in ("who", "checks", "test set read", "reason"):
        table.add_column(name)
    for decision in snapshot.decisions:
        table.add_row(*_row(decision))
    for decision in snapshot.open:
        table.add_row(*_row(decision, is_open=True))
    console = Console()
    (console if console.is_terminal else Console(width=_LINE_WIDTH)).print(table)
    for decision in snapshot.open:
        say(f"{decision.title} is being made, or its process died: `segops history` in a few minutes tells")
    refuse_problems(snapshot)


def _row(decision: Decision, *, is_open: bool = False) -> tuple[str, ...]:
    failed = [check.name for check in decision.failed]
    passed = sum(check.passed is True for check in decision.checks)
    verdict = f"failed: {', '.join(failed)}" if failed else f"{passed} passed" if decision.checks else "-"
    action = "override" if decision.override and decision.moves else decision.action
    before = f"{decision.from_version or '-'}{' (by hand)' if decision.by_hand else ''}"
    return (
        str(decision.number or "-"),
        decision.when[:16].replace("T", " "),
        f"{action}, open" if is_open else action,
        f"{before} → {decision.to_version}" if decision.moves else f"{before} (not {decision.to_version})",
        decision.who,
        verdict,
        f"{decision.test_reads}x" if decision.test_reads else "-",
        decision.reason or "-",
    )
