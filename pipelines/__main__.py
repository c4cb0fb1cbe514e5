"""`python -m pipelines`, from the repository's root."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from segops.errors import UserError
from segops.params import Params, load_params

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
COMPILED = Path("pipelines/segops-training.yaml")

ParamsFile = Annotated[Path, typer.Option("--params", help="The params file.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="A param, such as split.seed=3; may be repeated.")]
PARAMS = Path("params.yaml")


def _params(path: Path, changes: list[str] | None) -> Params:
    from pipelines.overrides import override

    return override(load_params(path), changes or [])


@app.command("compile")
def compile_(
    params: ParamsFile = PARAMS,
    changes: Changes = None,
    output: Annotated[Path, typer.Option(help="The compiled pipeline.")] = COMPILED,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the file is the present one.")] = False,
) -> None:
    """Write the pipeline as YAML, byte for byte the same each time."""
    from pipelines.compiled import compile_pipeline

    text = compile_pipeline(_params(params, changes))
    if not check:
        output.write_text(text, encoding="utf-8")
        typer.echo(f"{output}: {len(text.splitlines())} lines")
    elif not output.is_file() or output.read_text(encoding="utf-8") != text:
        raise UserError(f"{output} isn't what the code compiles to; run `python -m pipelines compile` and commit it")


@app.command()
def run_local(
    params: ParamsFile = PARAMS,
    changes: Changes = None,
    root: Annotated[Path, typer.Option(help="Outputs go to a new folder below it.")] = Path(".segops/pipeline"),
    docker: Annotated[bool, typer.Option("--docker", help="Each step in a container.")] = False,
) -> None:
    """Run the whole pipeline on this machine."""
    from pipelines.local import run_local as run

    typer.echo(f"{run(_params(params, changes), root, docker=docker)}: a folder a step")


def main() -> None:
    """Print a user's error as one line."""
    try:
        app()
    except UserError as error:
        sys.exit(f"pipelines: {error}")


if __name__ == "__main__":
    main()
