"""`python -m pipelines`, from the repository's root."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines import cluster_commands
from pipelines.options import PARAMS, Changes, Name, ParamsFile, Which, given_params
from segops.errors import OneLineError, UserError

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command("compile")
def compile_(
    params: ParamsFile = PARAMS,
    changes: Changes = None,
    pipeline: Annotated[Which | None, typer.Option("--pipeline", help="Which; all without it.")] = None,
    folder: Annotated[Path, typer.Option(help="The folder of the compiled pipelines.")] = Path("pipelines"),
    check: Annotated[bool, typer.Option("--check", help="Only say whether the files are up to date.")] = False,
) -> None:
    """Write the pipelines as YAML, byte for byte the same each time."""
    from pipelines.catalogue import PIPELINES
    from pipelines.compiled import compile_pipeline

    wanted = given_params(params, changes)
    for name in [pipeline.value] if pipeline else PIPELINES:
        text, output = compile_pipeline(wanted, name), folder / PIPELINES[name].file
        if not check:
            output.write_text(text, encoding="utf-8")
            typer.echo(f"{output}: {len(text.splitlines())} lines")
        elif not output.is_file() or output.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{output} isn't what the code compiles to; run `python -m pipelines compile` and commit it"
            )


@app.command()
def run_local(
    params: ParamsFile = PARAMS,
    changes: Changes = None,
    pipeline: Name = Which.TRAINING,
    root: Annotated[Path, typer.Option(help="Outputs go to a new folder below it.")] = Path(".segops/pipeline"),
    docker: Annotated[bool, typer.Option("--docker", help="Each step in a container.")] = False,
) -> None:
    """Run a whole pipeline on this machine."""
    from pipelines.local import run_local as run

    outputs = run(given_params(params, changes), root, docker=docker, pipeline=pipeline.value)
    typer.echo(f"{outputs}: a folder for each step")


app.add_typer(cluster_commands.app)


def main() -> None:
    """Run a command; print a user's error as a line."""
    try:
        app()
    except OneLineError as error:
        sys.exit(f"pipelines: {error}")


if __name__ == "__main__":
    main()
