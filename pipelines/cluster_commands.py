"""Defines the commands that speak to a Kubeflow cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.options import PARAMS, Changes, Name, ParamsFile, Which, given_params
from segops.params.project import Params
from segops.progress import say

if TYPE_CHECKING:
    from pipelines.cluster import Cluster

app = typer.Typer()

Host = Annotated[str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="URL of the pipelines' API.")]
Namespace = Annotated[str | None, typer.Option(help="Of the run, in a multi-user deployment.")]
Experiment = Annotated[str | None, typer.Option(help="Kubeflow's experiment; tracking.experiment without it.")]
TokenFile = Annotated[Path | None, typer.Option(help="A service account's token; else KFP_TOKEN, else none.")]
Run = Annotated[str, typer.Argument(help="A run's id, as `runs` lists it.")]
Data = Annotated[str, typer.Option(help="Names the data's state for the cache; without it each run asks the source.")]
Hours = Annotated[float, typer.Option(min=0, help="How long a lost connection is waited for.")]
_INTERRUPTED = 130  # as a shell says for a program that Ctrl-C ended


@app.command()
def submit(
    host: Host,
    params: ParamsFile = PARAMS,
    changes: Changes = None,
    pipeline: Name = Which.TRAINING,
    namespace: Namespace = None,
    experiment: Experiment = None,
    token_file: TokenFile = None,
    data: Data = "",
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end.")] = False,
) -> None:
    """Upload the pipeline, start a run, and print its link."""
    wanted = given_params(params, changes)
    cluster = _cluster(host, namespace, token_file)
    run_id = cluster.start(
        *_package(wanted, pipeline.value, data),
        experiment=experiment or wanted.tracking.experiment,
        name=_run_name(wanted, pipeline),
        account=wanted.kubeflow.service_account,
    )
    typer.echo(cluster.link(run_id))
    if wait:
        _follow(cluster, run_id, wanted.kubeflow.timeout_hours)


@app.command()
def follow(
    run_id: Run, host: Host, namespace: Namespace = None, token_file: TokenFile = None, hours: Hours = 24
) -> None:
    """Follow a run to its end; exit code 1 with the reason when it fails."""
    _follow(_cluster(host, namespace, token_file), run_id, hours)


@app.command()
def stop(run_id: Run, host: Host, namespace: Namespace = None, token_file: TokenFile = None) -> None:
    """End a run."""
    cluster = _cluster(host, namespace, token_file)
    cluster.stop(run_id)
    typer.echo(f"run {run_id} is being stopped; `{cluster.command('follow', run_id)}` waits for its end")


@app.command()
def runs(
    host: Host,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
) -> None:
    """List the latest runs."""
    for run in _cluster(host, namespace, token_file).runs(limit):
        typer.echo(f"{run.run_id}  {_time(run.created_at)}  {run.state or 'NEW':9}  {run.display_name}")


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
    data: Data = "",
) -> None:
    """Upload the pipeline and let it run again and again."""
    wanted = given_params(params, changes)
    recurring = _cluster(host, namespace, token_file).schedule(
        *_package(wanted, pipeline.value, data),
        experiment=experiment or wanted.tracking.experiment,
        name=_run_name(wanted, pipeline),
        cron=cron,
        account=wanted.kubeflow.service_account,
    )
    typer.echo(f"recurring run {recurring}")


@app.command()
def schedules(host: Host, namespace: Namespace = None, token_file: TokenFile = None) -> None:
    """List the recurring runs."""
    for recurring in _cluster(host, namespace, token_file).schedules():
        cron = recurring.trigger.cron_schedule if recurring.trigger else None
        times = cron.cron if cron else "no cron"
        typer.echo(f"{recurring.recurring_run_id}  {recurring.status or ''}  '{times}'  {recurring.display_name}")


@app.command()
def unschedule(
    schedule_id: Annotated[str, typer.Argument(help="A recurring run's id, as `schedules` lists it.")],
    host: Host,
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """Delete a recurring run; the runs that it started stay."""
    _cluster(host, namespace, token_file).unschedule(schedule_id)
    typer.echo(f"recurring run {schedule_id} is deleted")


def _follow(cluster: Cluster, run_id: str, hours: float) -> None:
    """Follow a run; on Ctrl-C say how to follow or stop it."""
    from pipelines.following import follow as wait

    try:
        wait(cluster, run_id, patience_s=hours * 3600)
    except KeyboardInterrupt:
        say(
            f"\nrun {run_id} goes on; follow it again with `{cluster.command('follow', run_id)}`, "
            f"end it with `{cluster.command('stop', run_id)}`"
        )
        raise typer.Exit(_INTERRUPTED) from None


def _cluster(host: str, namespace: str | None, token_file: Path | None) -> Cluster:
    """Connect to a cluster with the token of the environment or of a file."""
    from pipelines.api import Login
    from pipelines.cluster import Cluster

    return Cluster(Login(host, namespace, token=os.environ.get("KFP_TOKEN"), token_file=token_file))


def _time(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if value else ""


def _run_name(params: Params, pipeline: Which) -> str:
    """Return a run's name in Kubeflow: of a training its data, of a batch its model."""
    about = params.ingest.name if pipeline is Which.TRAINING else f"batch-{params.tracking.model_name}"
    return f"segops-{about}"


def _package(params: Params, pipeline: str, data: str) -> tuple[str, dict[str, Any]]:
    """Return the compiled pipeline and the run's arguments."""
    from pipelines.catalogue import PIPELINES
    from pipelines.compiled import compile_pipeline
    from pipelines.versions import code_version

    versions = {"data": data, "code": code_version()}
    return compile_pipeline(params, pipeline), PIPELINES[pipeline].arguments(params) | versions
