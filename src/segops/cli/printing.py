"""Prints tables and sentences of commands."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from segops.commands.history import history, refuse_problems
from segops.contracts.comparison import Comparison
from segops.contracts.scores import SubgroupDifference
from segops.params.tracking import TrackingParams
from segops.progress import counted, say

if TYPE_CHECKING:
    from segops.commands.status import Status
    from segops.comparison.paired import Half
    from segops.contracts.dataset import Dataset
    from segops.contracts.decision import Decision
    from segops.contracts.usage import Drift, Export
    from segops.params.ingest import IngestParams

_LINE_WIDTH = 140  # of a file or a pipe, characters
_NAMED = 5  # subgroups that a sentence names


def dataset_summary(dataset: Dataset, params: IngestParams) -> str:
    """Word what a dataset holds, what 16-bit samples count as, what is ignored, and which images aren't used."""
    held = (counted(dataset.images, "image"), counted(dataset.groups, "group"), counted(len(dataset.shards), "shard"))
    parts = ["{} in {}, {}".format(*held)]
    if "uint16" in dataset.dtypes:
        parts.append(f"16-bit samples use {dataset.uint16_bits} bits, so {2**dataset.uint16_bits - 1} counts as 1")
    if dataset.ignored_share:
        parts.append(f"{dataset.ignored_share:.2%} of the pixels ignored")
    elif params.ignore_values or params.ignore_classes:
        parts.append("nothing ignored: no mask has what ingest.ignore_values and ignore_classes list")
    images = [unused for unused in dataset.unused if unused.images]
    if images:
        kinds = ", ".join(f"{unused.files} {unused.kind} ({unused.named[0]}, ..)" for unused in images)
        parts.append(f"{counted(sum(unused.files for unused in images), 'image file')} not used: {kinds}")
    return "; ".join(parts)


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
    for row in comparison.standings:
        version = str(row.version) if row.registered else "not registered"
        name = f"{row.candidate} *" if row.candidate == comparison.challenger else row.candidate
        table.add_row(
            str(row.rank), name, row.val_dice.words(4), row.test_dice.words(4), f"{row.parameters:,}", version
        )
    console.print(table)
    console.print(
        "* challenger: the best registered candidate on validation" if comparison.challenger else "no challenger"
    )
    for sentence in [*by_class(comparison), *verdicts(comparison), *setbacks(comparison)]:
        console.print(sentence, soft_wrap=True)


def by_class(comparison: Comparison) -> list[str]:
    """Word each candidate's Dice on validation by class, a line each; none for two classes."""
    return [
        f"{row.candidate}, validation Dice by class: "
        + ", ".join(f"{name} {'none' if v is None else f'{v:.4f}'}" for name, v in row.val_class_dice.items())
        for row in comparison.standings
        if row.val_class_dice
    ]


def verdicts(comparison: Comparison) -> list[str]:
    """Word each paired difference of the leader in a sentence."""
    from segops.comparison.verdict import SUBSETS, verdict

    leader = comparison.standings[0].candidate
    return [
        f"{pair.a} - {pair.b}, {SUBSETS[pair.subset]} Dice: {pair.difference.mean:+.4f} "
        f"({comparison.confidence:.0%} interval {pair.difference.range_words(4, signed=True)}"
        + (f", adjusted p {pair.adjusted_p:.2g}" if pair.adjusted_p is not None else "")
        + (f", effect {pair.effect:+.2f}" if pair.effect is not None else "")
        + f"): {verdict(pair, comparison.confidence)}"
        for pair in comparison.differences
        if pair.a == leader
    ]


def setbacks(comparison: Comparison) -> list[str]:
    """Word each other candidate and subset in whose subgroups the leader falls behind, the worst first."""
    from segops.comparison.verdict import SUBSETS

    by_pair: dict[tuple[str, Half], list[SubgroupDifference]] = {}
    for subgroup in comparison.subgroups:
        if subgroup.regressed:
            by_pair.setdefault((subgroup.b, subgroup.subset), []).append(subgroup)
    leader = comparison.standings[0].candidate
    sentences = []
    for (other, subset), fallen in by_pair.items():
        worst = sorted(fallen, key=lambda subgroup: subgroup.difference.mean)
        named = ", ".join(
            f"{subgroup.kind} {subgroup.name} {subgroup.difference.mean:+.4f}" for subgroup in worst[:_NAMED]
        )
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
    """Return the cells of a decision in the table of the history."""
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


def print_export(result: Export) -> None:
    """Print the table of formats, and what was skipped."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for name, right in (("format", False), ("MiB", True), ("ms an image", True), ("speed", True), ("Dice", True),
                        ("Dice loss", True), ("largest difference", True), ("", False)):  # fmt: skip
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for file in result.formats:
        speed, verdict = f"{file.speed:.2f}x", "" if file.passed else "missed the tolerance"
        table.add_row(
            file.format, f"{file.size_mib:.2f}", f"{file.milliseconds:.1f}", speed, f"{file.dice:.4f}",
            f"{file.dice_loss:+.4f}", f"{file.difference:.1e}", verdict or file.note,
        )  # fmt: skip
    Console(width=160).print(table)
    for skipped in result.skipped:
        say(f"export: {skipped.format} skipped: {skipped.reason}")


def print_drift(result: Drift) -> None:
    """Print the features as a table, those that drift first."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for name in ("feature", "reference", "new", "distance", "p", ""):
        table.add_column(name, justify="left" if name in ("feature", "") else "right", no_wrap=True)
    for row in sorted(result.features, key=lambda row: (not row.drifted, -row.distance)):
        table.add_row(
            row.name, f"{row.reference_median:.3f}", f"{row.median:.3f}", f"{row.distance:.3f}",
            "" if row.p is None else f"{row.p:.1g}", "drifts" if row.drifted else "not judged" if row.reason else "",
        )  # fmt: skip
    console = Console(width=100)
    console.print(table)
    if result.not_judged:
        console.print(result.not_judged, soft_wrap=True)


def print_addresses(addresses: dict[str, str]) -> None:
    """Print where pages are, one a line, on stdout."""
    width = max(map(len, addresses))
    for name, address in addresses.items():
        typer.echo(f"{name.ljust(width)}  {address}")


def print_status(status: Status, *, as_json: bool) -> None:
    """Print where a project stands on stdout: one screen, or one JSON object."""
    if as_json:
        typer.echo(json.dumps(asdict(status), indent=2))
        return
    stages = len(status.done) + len(status.stale)
    lines = {
        "graph": status.unknown or f"{len(status.done)} of {stages} stages done",
        "stale": ", ".join(status.stale),
        "training": "; ".join(f"{name}: {progress}" for name, progress in status.running.items()),
        "cut off": "; ".join(f"{name}: {progress}" for name, progress in status.cut_off.items()),
        "champion": status.champion,
        "challenger": status.challenger,
        "decision": status.decision,
        "MLflow": f"{status.mlflow}; `segops ui` opens it",
    }
    print_addresses({name: text for name, text in lines.items() if text})
    if status.pages:
        typer.echo("pages")
        print_addresses({f"  {name}": path for name, path in status.pages.items()})
