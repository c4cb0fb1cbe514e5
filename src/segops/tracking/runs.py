"""A candidate's MLflow run: found again by its key, so that train, register and a rebuilt store share a run."""

from __future__ import annotations

import getpass
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from segops.files import engine, project_root
from segops.tracking import store
from segops.tracking.creation import MARK, create_once
from segops.tracking.spool import EpochMetrics

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from segops.contracts.model import TrainedModel
    from segops.contracts.prepared import Prepared

KEY_TAG = "segops.key"
KUBEFLOW_TAG = "kubeflow_run"
ALIAS_TAG, PROGRESS_TAG = "alias", "progress"  # shown in the runs table
SERIES = ("train/", "val/")  # what a training logs by epoch
_FORSAKEN_S = 600.0  # an empty run of this age is nobody's
_CHUNK = 900  # metrics in one request; MLflow takes 1000


def open_run(
    client: MlflowClient,
    *,
    experiment: str,
    candidate: str,
    key: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
) -> Run:
    """Find or make the top-level run of `candidate` and `key`, and add tags and missing params, flattened by dots."""
    from mlflow.entities import Param, RunTag

    experiment_id = store.experiment_id(client, experiment)
    first = {"candidate": candidate, KEY_TAG: key, "engine": engine(), **origin()}
    with store.alone(f"run {candidate} {key}"):
        run = find_or_create_run(
            client, experiment_id, f"{candidate} {key[:7]}", first, _filter({KEY_TAG: key, "candidate": candidate})
        )
    client.log_batch(
        run.info.run_id,
        params=[Param(name, value) for name, value in flatten(params).items() if name not in run.data.params],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    return client.get_run(run.info.run_id)


def find_run(client: MlflowClient, *, experiment: str, candidate: str, key: str) -> Run | None:
    """Return the candidate's run that carries `key`, or None; of several the oldest that holds something."""
    experiment_id = store.find_experiment(client, experiment)
    if experiment_id is None:
        return None
    found = _oldest_first(client, experiment_id, _filter({KEY_TAG: key, "candidate": candidate}))
    return found[0] if found else None


def find_or_create_run(client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str], own: str) -> Run:
    """Return the run that `own`, a filter of MLflow's, finds; create it once if there is none.

    If another machine makes a run at the same moment, the older one stays and each process deletes its own younger one.
    Old empty runs, which lost answers left, are deleted too.
    """
    found = _oldest_first(client, experiment_id, own)
    created = None
    if not found:
        created = create_once(
            lambda mark: client.create_run(experiment_id, run_name=name, tags={**tags, MARK: mark}),
            lambda mark: next(iter(client.search_runs([experiment_id], _filter({MARK: mark}))), None),
        )
        found = _oldest_first(client, experiment_id, own) or [created]
    for twin in found[1:]:
        is_own = created is not None and twin.info.run_id == created.info.run_id
        forsaken = not _holds_something(twin) and time.time() - twin.info.start_time / 1000 > _FORSAKEN_S
        if is_own or forsaken:
            client.delete_run(twin.info.run_id)
    return found[0]


def _oldest_first(client: MlflowClient, experiment_id: str, own: str) -> list[Run]:
    """Return the runs that a filter finds: those that hold something first, then by age."""
    found = client.search_runs([experiment_id], filter_string=own, order_by=["attributes.start_time ASC"])
    return sorted(found, key=lambda run: (not _holds_something(run), run.info.start_time, run.info.run_id))


def _holds_something(run: Run) -> bool:
    """Tell whether the run has any param or metric."""
    return bool(run.data.params or run.data.metrics)


def _filter(tags: Mapping[str, str]) -> str:
    """Build MLflow's filter string for runs that have all of these tags."""
    return " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn {'recipe': {'epochs': 3}} into {'recipe.epochs': '3'}; nulls are left out, lists become one text."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        elif value is not None:
            flat[f"{prefix}{name}"] = str(list(value) if isinstance(value, tuple) else value)
    return flat


def metric_name(column: str) -> str:
    """Name the metric of a history.csv column: 'val_dice' is 'val/dice', 'learning_rate' is 'train/learning_rate'."""
    subset, _, rest = column.partition("_")
    if "/" in column:
        return column
    return f"{subset}/{rest}" if subset in ("train", "val") and rest else f"train/{column}"


def stored_steps(client: MlflowClient, run: Run) -> set[tuple[str, int]]:
    """Return (metric, step) of every row of a run's `train/` and `val/` series."""
    names = [name for name in run.data.metrics if name.startswith(SERIES)]
    return {(name, row.step) for name in names for row in client.get_metric_history(run.info.run_id, name)}


def log_epochs(client: MlflowClient, run_id: str, epochs: Iterable[EpochMetrics], stored: set[tuple[str, int]]) -> None:
    """Log the rows that aren't in `stored`, and add them to it. Repeating it is harmless: an equal row is one row."""
    from mlflow.entities import Metric

    rows = [
        Metric(metric_name(name), float(value), epoch.timestamp_ms, epoch.epoch)
        for epoch in epochs
        for name, value in epoch.metrics.items()
        if (metric_name(name), epoch.epoch) not in stored
    ]
    for begin in range(0, len(rows), _CHUNK):
        part = rows[begin : begin + _CHUNK]
        client.log_batch(run_id, metrics=part)
        stored |= {(row.key, row.step) for row in part}


def log_scores(
    client: MlflowClient,
    run: Run,
    scores: Mapping[str, float | None],
    *,
    model_id: str | None = None,
    dataset: tuple[str, str] | None = None,
) -> None:
    """Log figures that have no step, tied to a logged model and to a dataset (name, digest) where given.

    A figure that the run holds already keeps its timestamp, the run's start, so that it stays one row.
    """
    from mlflow.entities import Metric

    name, digest = dataset or (None, None)
    held, now_ms = run.data.metrics, time.time_ns() // 1_000_000
    rows = [
        Metric(key, value, run.info.start_time if held.get(key, value) == value else now_ms, 0, model_id, name, digest)
        for key, value in scores.items()
        if value is not None and math.isfinite(value)
    ]
    client.log_batch(run.info.run_id, metrics=rows)


def data_tags(data: Prepared | TrainedModel) -> dict[str, str]:
    """Return tags that name the data behind a run, with the hashes of source, manifest, split and test set."""
    revision = {"source_revision": data.source_revision} if data.source_revision else {}
    return {
        "dataset": data.dataset,
        "licence": data.licence,
        "source": data.source,
        **revision,
        "protocol": data.protocol,
        "source_sha256": data.source_sha256,
        "manifest_sha256": data.manifest_sha256,
        "split_sha256": data.assignment_sha256,
        "test_sha256": data.test_sha256,
    }


def origin() -> dict[str, str]:
    """Return tags for who made the run, in which Kubeflow run, at which commit, and whether files differed from it.

    MLflow's own pages know these tags. An image without git has the commit in its environment: SEGOPS_GIT_COMMIT, and
    SEGOPS_GIT_DIRTY, `true` or `false`.
    """
    tags = {"mlflow.user": user(), "mlflow.source.name": "segops"}
    return tags | kubeflow_tags() | commit_tags(*_commit())


def kubeflow_tags() -> dict[str, str]:
    """Return tags for the Kubeflow run that this process is a step of, and its page if known; none outside Kubeflow."""
    kubeflow_run = os.environ.get("SEGOPS_KFP_RUN_ID")
    if not kubeflow_run:
        return {}
    page = os.environ.get("SEGOPS_KFP_UI")
    url = {"kubeflow_url": f"{page.rstrip('/')}/#/runs/details/{kubeflow_run}"} if page else {}
    return {KUBEFLOW_TAG: kubeflow_run, **url}


def commit_tags(commit: str | None, dirty: bool | None) -> dict[str, str]:
    """Return a commit as tags, one of them MLflow's own, or none if the commit isn't known."""
    if not commit:
        return {}
    known = {} if dirty is None else {"git_dirty": str(dirty).lower()}
    return {"mlflow.source.git.commit": commit, "git_commit": commit, **known}


def _commit() -> tuple[str | None, bool | None]:
    """Return the commit and whether tracked files differ from it, from git or else from the environment."""
    if commit := _git("rev-parse", "HEAD"):
        return commit, bool(_git("status", "--porcelain", "--untracked-files=no"))
    dirty = os.environ.get("SEGOPS_GIT_DIRTY", "")
    return os.environ.get("SEGOPS_GIT_COMMIT") or None, dirty == "true" if dirty else None


def user() -> str:
    """Return the login name, or the user id in a container that has no names."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _git(*words: str) -> str:
    """Return what a git command prints, or "" where there is no git, no repository or no answer in time."""
    program = shutil.which("git")
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            [program, *words], cwd=project_root(), capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
