"""What a comparison left in MLflow, noted with the runs of its candidates, so that equal work isn't done again."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from segops.params.tracking import TrackingParams
from segops.tracking import registry, store
from segops.tracking.runs import find_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

WORK_TAG = "segops.work"
_LEFT_TAG = "segops.left"
_KUBEFLOW_RUN = "SEGOPS_KFP_RUN_ID"


def note_work(
    client: MlflowClient,
    tracking: TrackingParams,
    work: str,
    *,
    keys: Mapping[str, str],
    versions: Mapping[str, int | None],
    challenger: int | None,
) -> None:
    """Tag each candidate's run with the work that is done and what it left: its version and the challenger's.

    Args:
        work: names what a run reads and how.
        keys: of the candidates' runs, by candidate. A run that the store lacks is skipped: the work counts as not done.
    """
    for candidate, key in keys.items():
        run = find_run(client, experiment=tracking.experiment, candidate=candidate, key=key)
        if run is not None:
            left = {"version": versions[candidate], "challenger": challenger, "run": os.environ.get(_KUBEFLOW_RUN)}
            client.set_tag(run.info.run_id, _LEFT_TAG, json.dumps(left))
            client.set_tag(run.info.run_id, WORK_TAG, work)


def done_before(client: MlflowClient, tracking: TrackingParams, work: str, candidates: Collection[str]) -> str | None:
    """Describe what equal work left in MLflow; return None if it wasn't done or what it left is gone or moved."""
    experiment = store.find_experiment(client, tracking.experiment)
    if experiment is None:
        return None
    noted = client.search_runs([experiment], f"tags.`{WORK_TAG}` = '{work}'")
    left = {run.data.tags["candidate"]: json.loads(run.data.tags[_LEFT_TAG]) for run in noted}
    if set(left) != set(candidates):
        return None
    versions = {name: work["version"] for name, work in left.items()}
    (challenger, run_id), *others = {(work["challenger"], work["run"]) for work in left.values()}
    held = registry.alias(client, tracking.model_name, registry.CHALLENGER)
    missing = any(
        number is not None and not _ready(registry.version(client, tracking.model_name, number), name)
        for name, number in versions.items()
    )
    if others or missing or held != challenger:
        return None
    told = [f"{name} {f'is version {version}' if version else 'missed a floor'}" for name, version in versions.items()]
    by = f" by run {run_id}" if run_id else ""
    return f"compared before{by}: {', '.join(sorted(told))}"


def _ready(version: ModelVersion | None, candidate: str) -> bool:
    """Tell whether a version is there, is the candidate's, and can be used."""
    return version is not None and version.tags.get("candidate") == candidate and version.status == "READY"
