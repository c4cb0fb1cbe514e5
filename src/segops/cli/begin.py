"""Defines the command that begins a project: from a source to its params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segops.cli.common import PARAMS

if TYPE_CHECKING:
    from segops.planning.decisions import Plan

app = typer.Typer()


@app.command()
def init(
    source: Annotated[str, typer.Argument(help="A folder, archive, table, s3://, https://, dvc:// or lakefs://.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = PARAMS,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    wizard: Annotated[bool, typer.Option("--wizard", help="Ask where it isn't sure.")] = False,
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, help="For training all candidates.")] = 30,
    memory_gib: Annotated[float, typer.Option("--memory-gib", min=0.5, help="Memory for a training step.")] = 4,
    threads: Annotated[int, typer.Option("--threads", min=1, max=256, help="CPU threads, as runtime.threads.")] = 2,
    gflops: Annotated[
        float | None,
        typer.Option("--gflops", min=1, help="GFLOP/s of the machine; default: 20 a thread."),
    ] = None,
    look: Annotated[int, typer.Option("--look", min=2, help="Images whose pixels are looked at, at most.")] = 200,
    sha256: Annotated[str | None, typer.Option("--sha256", help="The hash that an https:// source must have.")] = None,
) -> None:
    """Look at images with masks and write a commented params.yaml: what pairs, classes, groups, split, candidates."""
    from segops.commands.init import InitRequest
    from segops.commands.init import init as command
    from segops.planning.cost import GFLOPS_A_THREAD
    from segops.planning.decisions import Budget

    budget = Budget(minutes, memory_gib, threads, gflops or GFLOPS_A_THREAD * threads)
    ask = (lambda question, default: str(typer.prompt(question, default=default))) if wizard else None
    plan = command(InitRequest(source, out, budget, force=force, sha256=sha256, most=look, ask=ask))
    _say_plan(plan)
    doubts = sum(not decision.sure for decision in plan.decisions.values())
    typer.echo(f"{out}: {len(plan.decisions)} params, {doubts} of them not sure; correct these, then run `dvc repro`")


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def warm(command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="As `dvc repro`.")]) -> None:
    """Run a command whose `segops` processes begin warm: forks of one that has imported what the stages need."""
    from segops.cli.hand_over import end_as
    from segops.cli.warm import run

    end_as(run(command))


def _say_plan(plan: Plan) -> None:
    """Print each assumption with its reason."""
    from segops.planning.text import flow, reason

    for decision in plan.decisions.values():
        value = "by candidate" if decision.param.endswith(".model") else flow(decision.value)
        typer.echo(f"{decision.param.removeprefix('candidates.*.')}: {value}  ({reason(decision)})")
