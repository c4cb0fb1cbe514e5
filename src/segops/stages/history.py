"""history: who promoted what, when and why. A person's command, not a graph stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segops.errors import UserError
from segops.params.tracking import TrackingParams
from segops.progress import say

if TYPE_CHECKING:
    from segops.tracking.ledger import Decision

_LINE_WIDTH = 140  # of a file or a pipe, characters


def history(tracking: TrackingParams) -> list[str]:
    """Every decision and every refusal about the registered model, oldest first, each a line of JSON (`Decision`)."""
    from segops.tracking import store
    from segops.tracking.ledger import Ledger

    client = store.client(tracking)
    with store.answering():
        return Ledger(client, tracking).lines()


def check_chain(lines: list[str]) -> None:
    """Raise UserError where an entry was changed or removed after another one followed it."""
    from segops.tracking.ledger import break_of

    if broken := break_of(lines):
        raise UserError(f"the ledger isn't as it was written: {broken}; compare it with an earlier `history --json`")


def print_history(tracking: TrackingParams) -> None:
    """Print the ledger as a table on stdout. Raises as `check_chain` does."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from segops.tracking.ledger import Decision

    lines = history(tracking)
    if not lines:
        say(f"no decision about '{tracking.model_name}' yet; `segops promote challenger` makes the first")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("no.", "when (UTC)", "action", "champion"):
        table.add_column(name, no_wrap=True)
    for name in ("who", "checks", "test set read", "reason"):
        table.add_column(name)
    for line in lines:
        table.add_row(*_history_row(Decision.model_validate_json(line)))
    console = Console()
    (console if console.is_terminal else Console(width=_LINE_WIDTH)).print(table)
    check_chain(lines)


def _history_row(one: Decision) -> tuple[str, ...]:
    failed = [check.name for check in one.failed]
    passed = sum(check.passed is True for check in one.checks)
    verdict = f"failed: {', '.join(failed)}" if failed else f"{passed} passed" if one.checks else "-"
    return (
        str(one.number or "-"),
        one.when[:16].replace("T", " "),
        "override" if one.override and one.moves else one.action,
        f"{one.from_version or '-'} → {one.to_version}"
        if one.moves
        else f"{one.from_version or '-'} (not {one.to_version})",
        one.who,
        verdict,
        f"{one.test_reads}x" if one.test_reads else "-",
        one.reason or "-",
    )
