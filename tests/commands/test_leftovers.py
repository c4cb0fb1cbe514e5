"""What a Kubeflow run that failed leaves in MLflow."""

from __future__ import annotations

import pytest

from segops.kubeflow import close_run
from segops.params.tracking import TrackingParams
from segops.tracking import runs, store
from tests.support.mlflow_server import AWAY, own_names

pytest_plugins = ["tests.support.mlflow_stores"]


@pytest.fixture(autouse=True)
def kubeflow_run(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SEGOPS_KFP_RUN_ID", "run-2")
    return "run-2"


@pytest.mark.parametrize(("state", "status"), [("FAILED", "FAILED"), ("CANCELLED", "KILLED"), ("SUCCEEDED", "RUNNING")])
def test_unfinished_runs_of_the_failed_run_are_ended_and_no_others(file_store: object, state: str, status: str) -> None:
    tracking = own_names()
    client = store.client()
    experiment = store.experiment_id(client, tracking.experiment)
    ours, done, earlier = (
        client.create_run(experiment, tags={runs.KUBEFLOW_TAG: name}).info.run_id
        for name in ("run-2", "run-2", "run-1")
    )
    client.set_terminated(done, "FINISHED")
    close_run(tracking, state, "train failed")
    assert [client.get_run(run_id).info.status for run_id in (ours, done, earlier)] == [status, "FINISHED", "RUNNING"]


def test_the_last_line_is_said_though_mlflow_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    close_run(TrackingParams(patience_s=0), "FAILED", None)
    away, last = capsys.readouterr().err.splitlines()
    assert away.endswith("unfinished MLflow runs of this run stay as they are")
    assert (
        last == "segops: the run ended as FAILED; submit the same again: it resumes from the cache and the checkpoints"
    )


def test_a_run_that_is_taken_up_belongs_to_the_kubeflow_run_that_took_it_up(file_store: object) -> None:
    tracking = own_names()
    about = {"experiment": tracking.experiment, "candidate": "c", "key": "k", "params": {}}
    client = store.client()
    first = runs.open_run(client, **about, tags={runs.KUBEFLOW_TAG: "run-1"})  # type: ignore[arg-type]
    again = runs.open_run(client, **about, tags=runs.kubeflow_tags())  # type: ignore[arg-type]
    assert again.info.run_id == first.info.run_id
    assert again.data.tags[runs.KUBEFLOW_TAG] == "run-2"
