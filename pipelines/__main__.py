"""`python -m pipelines`, from the repository's root."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segops.errors import UserError
from segops.params.project import Params, load_params

if TYPE_CHECKING:
    from pipelines.cluster import Login

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ParamsFile = Annotated[Path, typer.Option("--params", help="The params file.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="A param, such as split.seed=3; may be repeated.")]
PARAMS = Path("params.yaml")


class Which(StrEnum):
    """The pipelines of the catalogue, which takes a second to import."""

    TRAINING = "training"
    BATCH_INFERENCE = "batch-inference"


Name = Annotated[Which, typer.Option("--pipeline", help="Which pipeline.")]


def _params(path: Path, changes: list[str] | None) -> Params:
    from pipelines.overrides import override

    return override(load_params(path), changes or [])


@app.command("compile")
def compile_(
    params: ParamsFile = PARAMS,
    changes: Changes = None,
    pipeline: Annotated[Which | None, typer.Option("--pipeline", help="Which; all without it.")] = None,
    folder: Annotated[Path, typer.Option(help="Where the compiled pipelines stand.")] = Path("pipelines"),
    check: Annotated[bool, typer.Option("--check", help="Only say whether the files are the present ones.")] = False,
) -> None:
    """Write the pipelines as YAML, byte for byte the same each time."""
    from pipelines.catalogue import PIPELINES
    from pipelines.compiled import compile_pipeline

    given = _params(params, changes)
    for name in [pipeline.value] if pipeline else PIPELINES:
        text, output = compile_pipeline(given, name), folder / PIPELINES[name].file
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

    made = run(_params(params, changes), root, docker=docker, pipeline=pipeline.value)
    typer.echo(f"{made}: a folder a step")


Host = Annotated[str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="URL of the pipelines' API.")]
Namespace = Annotated[str | None, typer.Option(help="Of the run, in a multi-user deployment.")]
Experiment = Annotated[str | None, typer.Option(help="Kubeflow's experiment; tracking.experiment without it.")]
TokenFile = Annotated[Path | None, typer.Option(help="A service account's token; else KFP_TOKEN, else none.")]


@app.command()
def submit(
    host: Host,
    params: ParamsFile = PARAMS,
    changes: Changes = None,
    pipeline: Name = Which.TRAINING,
    namespace: Namespace = None,
    experiment: Experiment = None,
    token_file: TokenFile = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end.")] = False,
) -> None:
    """Upload the pipeline, start a run, and print its link."""
    from pipelines.cluster import Cluster

    given = _params(params, changes)
    cluster = Cluster(_login(host, namespace, token_file))
    run_id = cluster.start(
        *_package(given, pipeline.value),
        experiment=experiment or given.tracking.experiment,
        name=_run_name(given, pipeline),
        account=given.kubeflow.service_account,
    )
    typer.echo(cluster.link(run_id))
    if wait:
        cluster.follow(run_id)


@app.command()
def schedule(
    host: Host,
    cron: Annotated[str, typer.Option(help="Six fields, seconds first, such as '0 0 2 * * *'.")],
    params: ParamsFile = PARAMS,
    changes: Changes = None,
    pipeline: Name = Which.TRAINING,
    namespace: Namespace = None,
    experiment: Experiment = None,
    token_file: TokenFile = None,
) -> None:
    """Upload the pipeline and let it run again and again."""
    from pipelines.cluster import Cluster

    given = _params(params, changes)
    made = Cluster(_login(host, namespace, token_file)).schedule(
        *_package(given, pipeline.value),
        experiment=experiment or given.tracking.experiment,
        name=_run_name(given, pipeline),
        cron=cron,
        account=given.kubeflow.service_account,
    )
    typer.echo(f"recurring run {made}")


def _login(host: str, namespace: str | None, token_file: Path | None) -> Login:
    from pipelines.cluster import Login

    return Login(host, namespace, token=os.environ.get("KFP_TOKEN"), token_file=token_file)


def _run_name(params: Params, pipeline: Which) -> str:
    """A run's name in Kubeflow: of a training its data, of a batch its model."""
    about = params.ingest.name if pipeline is Which.TRAINING else f"batch-{params.tracking.model_name}"
    return f"segops-{about}"


def _package(params: Params, pipeline: str) -> tuple[str, dict[str, Any]]:
    """The compiled pipeline and the run's arguments."""
    from pipelines.catalogue import PIPELINES
    from pipelines.compiled import compile_pipeline
    from pipelines.versions import code_version, data_version

    chosen = PIPELINES[pipeline]
    versions = {"data": data_version(params.ingest), "code": code_version()} if chosen.versioned else {}
    return compile_pipeline(params, pipeline), chosen.arguments(params) | versions


def main() -> None:
    """Print a user's error as one line."""
    try:
        app()
    except UserError as error:
        sys.exit(f"pipelines: {error}")


if __name__ == "__main__":
    main()
