"""What commands print: tables and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segops.commands.history import history, refuse_problems
from segops.contracts.comparison import Comparison
from segops.contracts.scores import SubgroupDifference
from segops.params.tracking import TrackingParams
from segops.progress import say

if TYPE_CHECKING:
    from segops.comparison.paired import Half
    from segops.contracts.decision import Decision

_LINE_WIDTH = 140  # of a file or a pipe, characters
_NAMED = 5  # subgroups that a sentence names


def print_leaderboard(comparison: Comparison) -> None:
    """Print what to do, the standings, and whether the lead is real, on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=_LINE_WIDTH)
    console.print(comparison.decision, soft_wrap=True, markup=False)
    level = f"{comparison.confidence:.0%}"
    columns = ("rank", "candidate", f"validation Dice ({level})", f"test Dice ({level})", "parameters", "version")
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for one in comparison.standings:
        version = str(one.version) if one.registered else "not registered"
        name = f"{one.candidate} *" if one.candidate == comparison.challenger else one.candidate
        table.add_row(
            str(one.rank), name, one.val_dice.words(4), one.test_dice.words(4), f"{one.parameters:,}", version
        )
    console.print(table)
    console.print(
        "* challenger: the best registered candidate on validation" if comparison.challenger else "no challenger"
    )
    for sentence in [*by_class(comparison), *verdicts(comparison), *setbacks(comparison)]:
        console.print(sentence, soft_wrap=True)


def by_class(comparison: Comparison) -> list[str]:
    """One line for each candidate with its Dice on validation by class; none for two classes."""
    return [
        f"{one.candidate}, validation Dice by class: "
        + ", ".join(f"{name} {'none' if v is None else f'{v:.4f}'}" for name, v in one.val_class_dice.items())
        for one in comparison.standings
        if one.val_class_dice
    ]


def verdicts(comparison: Comparison) -> list[str]:
    """One sentence for each paired difference of the leader."""
    from segops.comparison.verdict import SUBSETS, verdict

    leader = comparison.standings[0].candidate
    return [
        f"{one.a} - {one.b}, {SUBSETS[one.subset]} Dice: {one.difference.mean:+.4f} "
        f"({comparison.confidence:.0%} interval {one.difference.range_words(4, signed=True)}"
        + (f", adjusted p {one.adjusted_p:.2g}" if one.adjusted_p is not None else "")
        + (f", effect {one.effect:+.2f}" if one.effect is not None else "")
        + f"): {verdict(one, comparison.confidence)}"
        for one in comparison.differences
        if one.a == leader
    ]


def setbacks(comparison: Comparison) -> list[str]:
    """One sentence for each other candidate and subset in whose subgroups the leader falls behind, the worst first."""
    from segops.comparison.verdict import SUBSETS

    found: dict[tuple[str, Half], list[SubgroupDifference]] = {}
    for one in comparison.subgroups:
        if one.regressed:
            found.setdefault((one.b, one.subset), []).append(one)
    leader = comparison.standings[0].candidate
    sentences = []
    for (other, subset), fallen in found.items():
        worst = sorted(fallen, key=lambda one: one.difference.mean)
        named = ", ".join(f"{one.kind} {one.name} {one.difference.mean:+.4f}" for one in worst[:_NAMED])
        more = f" and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
        sentences.append(f"{leader} falls behind {other}, {SUBSETS[subset]} Dice: {named}{more}")
    return sentences


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
