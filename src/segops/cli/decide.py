"""Who is the champion: the commands of the person who decides."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segops.cli.common import COMPARISON, PARAMS, REPORTS, VALIDATION, ParamsFile, load
from segops.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the ledger.")]

app = typer.Typer()


@app.command()
def leaderboard(comparison: Path = COMPARISON) -> None:
    """Print the comparison that `compare` wrote, and what to do next."""
    from segops.model_contracts import Comparison
    from segops.stages.compare import print_leaderboard

    made = Comparison.load(comparison)
    print_leaderboard(made)
    version = next((one.version for one in made.standings if one.candidate == made.challenger), None)
    typer.echo(f"\nPages: {comparison}/index.html, {VALIDATION}/report.html, {REPORTS}/*/gallery.html")
    typer.echo("Next:  make ui                        # compare the runs in MLflow")
    if version is not None:
        typer.echo(f"       .venv/bin/segops promote {version}      # make {made.challenger} the champion")


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A version number, or an alias such as `challenger`.")],
    params: ParamsFile = PARAMS,
    yes: Yes = False,
    reason: Reason = None,
) -> None:
    """Make a version the champion, when it passes the gate. Exit code 3: the gate refused."""
    from segops.stages.promote import promote as stage

    knobs = load(params)
    decision = stage(version, knobs.promote, knobs.tracking, confirm=_confirm(yes), reason=reason)
    typer.echo(f"decision {decision.number}: champion is version {decision.to_version}")


@app.command()
def rollback(params: ParamsFile = PARAMS, yes: Yes = False, reason: Reason = None) -> None:
    """Restore the champion before the present one."""
    from segops.stages.promote import rollback as stage

    decision = stage(load(params).tracking, confirm=_confirm(yes), reason=reason)
    typer.echo(f"decision {decision.number}: champion is version {decision.to_version}")


@app.command()
def history(params: ParamsFile = PARAMS) -> None:
    """Show every promotion and rollback: who, when, why."""
    from segops.stages.promote import print_history

    print_history(load(params).tracking)


def _confirm(yes: bool) -> Callable[[str], bool]:
    def ask(question: str) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            raise UserError("promotion asks before it moves the champion; answer in a terminal or pass --yes")
        return typer.confirm(question)

    return ask
