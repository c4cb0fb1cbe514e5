"""A search in MLflow: one run with its trials as children, each once, whatever happens to the server."""

from __future__ import annotations

from typing import Any

import pytest

from segops.contracts.trials import TrialRecord
from segops.params.tracking import TrackingParams
from segops.tracking import store
from segops.tracking.search_run import SearchRun
from tests.support.mlflow_server import MlflowServer, free_port, own_names

pytest_plugins = ["tests.support.mlflow_stores"]

TRIALS = [
    TrialRecord(0, 0, "complete", {"recipe.learning_rate": 0.01, "model.filters": [4, 8]}, 0.8, curve=(0.5, 0.8)),
    TrialRecord(1, 1, "pruned", {"recipe.learning_rate": 0.1}, curve=(0.2,)),
    TrialRecord(2, 2, "failed", {"recipe.learning_rate": 0.5}, reason="train_loss is nan"),
    TrialRecord(3, 3, "running", {"recipe.learning_rate": 0.2}, curve=(0.4,)),
]


def _search(tracking: TrackingParams) -> SearchRun:
    params = {"sampler": "tpe", "objectives": ["dice"]}
    return SearchRun(experiment=tracking.experiment, candidate="net", study=f"net-{tracking.experiment}", params=params)


def _runs(tracking: TrackingParams) -> list[Any]:
    client = store.client()
    return list(client.search_runs([store.experiment_id(client, tracking.experiment)]))


def _roles(tracking: TrackingParams) -> tuple[Any, dict[int, Any]]:
    found = _runs(tracking)
    (parent,) = [run for run in found if run.data.tags["role"] == "search"]
    children = {int(run.data.tags["segops.trial"]): run for run in found if run.data.tags["role"] == "trial"}
    assert len(children) == len(found) - 1
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    return parent, children


def test_trials_are_children_with_params_curve_and_state(tracking: TrackingParams) -> None:
    run = _search(tracking)
    run.show(TRIALS)
    _, children = _roles(tracking)
    assert sorted(children) == [0, 1, 2], "one that runs comes when it has ended"
    run.finish([*TRIALS[:3], TrialRecord(3, 3, "complete", {"recipe.learning_rate": 0.2}, 0.6)], {"search/dice": 0.8})
    parent, children = _roles(tracking)
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"sampler": "tpe", "objectives": "['dice']"}
    assert parent.data.metrics == {"search/dice": 0.8}
    assert children[0].data.params == {"recipe.learning_rate": "0.01", "model.filters": "[4, 8]"}
    assert children[0].data.metrics["search/dice"] == 0.8
    history = store.client().get_metric_history(children[0].info.run_id, "val/dice")
    assert sorted((row.step, row.value) for row in history) == [(1, 0.5), (2, 0.8)]
    assert {number: run.data.tags["state"] for number, run in children.items()} == {
        0: "complete", 1: "pruned", 2: "failed", 3: "complete",
    }  # fmt: skip
    assert children[2].info.status == "FAILED"
    assert children[2].data.tags["reason"] == "train_loss is nan"


def test_a_restart_doubles_nothing_and_finishes_what_was_cut_off(file_store: object) -> None:
    tracking = own_names()
    _search(tracking).show(TRIALS[:2])
    _, before = _roles(tracking)
    store.client().update_run(before[1].info.run_id, status="RUNNING")  # as if killed between its rows and its end
    _search(tracking).finish(TRIALS[:3], {})
    _, after = _roles(tracking)
    assert {number: run.info.run_id for number, run in after.items() if number < 2} == {
        number: run.info.run_id for number, run in before.items()
    }
    assert sorted(after) == [0, 1, 2]
    assert after[1].info.status == "FINISHED"
    assert len(store.client().get_metric_history(after[1].info.run_id, "val/dice")) == 1


def test_a_server_that_is_away_is_said_once_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: MlflowServer
) -> None:
    tracking = own_names()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    run = _search(tracking)
    run.show(TRIALS[:1])
    run.show(TRIALS[:2])
    said = capsys.readouterr().err
    assert said.count("does not answer") == 1
    assert "the search continues" in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    run.finish(TRIALS[:3], {})
    assert sorted(_roles(tracking)[1]) == [0, 1, 2]
