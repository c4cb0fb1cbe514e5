"""Defines the commands of the person who decides who is the champion."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segops.cli.common import (
    COMPARISON,
    MODELS,
    NOISE,
    PARAMS,
    PREPARED,
    REPORTS,
    VALIDATION,
    Candidate,
    ParamsFile,
    load,
    wrote,
)
from segops.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the ledger.")]

app = typer.Typer()


@app.command()
def leaderboard(comparison: Path = COMPARISON) -> None:
    """Print the comparison that `compare` wrote, and what to do next."""
    from segops.cli.printing import print_leaderboard
    from segops.contracts.comparison import Comparison

    result = Comparison.load(comparison)
    print_leaderboard(result)
    version = next((row.version for row in result.standings if row.candidate == result.challenger), None)
    typer.echo(f"\nPages: {comparison}/index.html, {VALIDATION}/report.html, {REPORTS}/*/gallery.html")
    typer.echo("Next:  make ui                        # compare the runs in MLflow")
    if version is not None:
        typer.echo(f"       .venv/bin/segops promote {version}      # make {result.challenger} the champion")


@app.command()
def noise(
    candidate: Candidate,
    params: ParamsFile = PARAMS,
    seeds: Annotated[int, typer.Option("--seeds", min=2, max=50, help="Trainings, the candidate's own included.")] = 3,
    prepared: Path = PREPARED,
    model: Path | None = None,
    report: Path | None = None,
) -> None:
    """Train a candidate again with other seeds, so that the gate knows which gain is none."""
    from segops.commands.noise import noise as stage

    knobs, folder = load(params), report or NOISE / candidate
    knobs.candidate(candidate)
    result = stage(
        knobs.runtime, knobs.tracking, seeds=seeds, prepared=prepared, model=model or MODELS / candidate, report=folder
    )
    wrote(
        folder,
        f"validation Dice of {len(result.seeds)} seeds: deviation {result.deviation:.4f}, floor {result.floor:.4f}",
    )


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A version number, or an alias such as `challenger`.")],
    params: ParamsFile = PARAMS,
    yes: Yes = False,
    reason: Reason = None,
    override: Annotated[
        str | None, typer.Option("--override", metavar="REASON", help="Promote though checks fail, for this reason.")
    ] = None,
) -> None:
    """Make a version the champion, when it passes the gate. Exit code 3: the gate refused."""
    from segops.commands.promote import promote as stage

    knobs = load(params)
    decision = stage(
        version,
        knobs.promote,
        knobs.runtime,
        knobs.tracking,
        confirm=confirmation(yes),
        reason=reason,
        override=override,
    )
    typer.echo(f"decision {decision.number}: champion is version {decision.to_version}")


@app.command()
def rollback(
    params: ParamsFile = PARAMS,
    to: Annotated[
        int | None,
        typer.Option("--to", min=1, metavar="VERSION", help="A former champion; default: that before the present."),
    ] = None,
    yes: Yes = False,
    reason: Reason = None,
) -> None:
    """Restore the champion before the present, or an earlier champion."""
    from segops.commands.promote import rollback as stage

    decision = stage(load(params).tracking, confirm=confirmation(yes), to=to, reason=reason)
    typer.echo(f"decision {decision.number}: champion is version {decision.to_version}")


@app.command()
def history(
    params: ParamsFile = PARAMS,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON each, as it was written.")] = False,
) -> None:
    """Show every promotion, refusal and rollback: who, when, why. Exit code 1: the ledger was changed afterwards, or
    the champion isn't its."""
    from segops.cli.printing import print_history
    from segops.commands.history import history as stage
    from segops.commands.history import refuse_problems

    tracking = load(params).tracking
    if not as_json:
        print_history(tracking)
        return
    snapshot = stage(tracking)
    for line in snapshot.lines:
        typer.echo(line)
    refuse_problems(snapshot)


def confirmation(yes: bool) -> Callable[[str], bool]:
    """Return the function that asks the person. Raises UserError, before the test set is read, if nobody can answer."""
    if yes:
        return lambda _: True
    if not sys.stdin.isatty():
        raise UserError("promotion asks before it moves the champion; answer in a terminal or pass --yes")
    return typer.confirm
