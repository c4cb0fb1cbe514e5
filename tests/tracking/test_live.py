"""A training's run in MLflow: every epoch once, whatever happens to the server or to the training."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from segops.files import sha256_lines
from segops.params.tracking import TrackingParams
from segops.tracking import live, runs, store
from segops.tracking.live import LiveRun
from segops.tracking.spool import EpochMetrics
from tests.support.machine import wait_until
from tests.support.mlflow_server import MlflowServer, free_port, own_names

pytest_plugins = ["tests.support.mlflow_stores"]

KEY = sha256_lines(["a candidate"])
PARAMS = {"model": {"filters": [4, 8]}, "recipe": {"learning_rate": 0.001, "clip_norm": None}}


def _live(tracking: TrackingParams, spool: Path, **given: Any) -> LiveRun:
    about: dict[str, Any] = {"candidate": "small", "key": KEY, "params": PARAMS, "tags": {"device": "cpu"}, "epochs": 3}
    return LiveRun(experiment=tracking.experiment, spool=spool, **about | given)


def _row(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "learning_rate": 0.001, "train_loss": 1 / epoch, "val_dice": epoch / 10}


def _find(tracking: TrackingParams) -> Any:
    return runs.find_run(store.client(), experiment=tracking.experiment, candidate="small", key=KEY)


def _run(tracking: TrackingParams) -> Any:
    found = _find(tracking)
    assert found is not None
    return found


def _series(tracking: TrackingParams, name: str) -> list[tuple[int, float]]:
    found = _find(tracking)
    history = store.client().get_metric_history(found.info.run_id, name) if found else []
    return sorted((row.step, row.value) for row in history)


def test_a_training_is_a_run_with_its_params_and_every_epoch(tracking: TrackingParams, tmp_path: Path) -> None:
    with _live(tracking, tmp_path / "spool") as run:
        for epoch in (1, 2, 3):
            run.log_epoch(epoch, _row(epoch))
    found = _run(tracking)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == f"small {KEY[:7]}"
    assert found.data.params == {"model.filters": "[4, 8]", "recipe.learning_rate": "0.001"}
    assert found.data.tags["candidate"] == "small"
    assert found.data.tags["engine"] == "cli"
    assert _series(tracking, "val/dice") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert _series(tracking, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert set(found.data.metrics) == {"val/dice", "train/loss", "train/learning_rate"}


def test_a_run_of_kubeflow_is_named_and_linked(
    tracking: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGOPS_ENGINE", "kfp")
    monkeypatch.setenv("SEGOPS_KFP_RUN_ID", "r-1")
    monkeypatch.setenv("SEGOPS_KFP_UI", "https://kubeflow.lab/pipeline/")
    with _live(tracking, tmp_path / "spool"):
        pass
    tags = _run(tracking).data.tags
    assert (tags["engine"], tags["kubeflow_run"]) == ("kfp", "r-1")
    assert tags["kubeflow_url"] == "https://kubeflow.lab/pipeline/#/runs/details/r-1"


def test_an_image_without_git_names_the_commit_that_it_was_built_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "git_commit" not in runs.origin()  # the test's folder is no checkout
    monkeypatch.setenv("SEGOPS_GIT_COMMIT", "c0ffee")
    monkeypatch.setenv("SEGOPS_GIT_DIRTY", "true")
    tags = runs.origin()
    assert (tags["git_commit"], tags["mlflow.source.git.commit"], tags["git_dirty"]) == ("c0ffee", "c0ffee", "true")
    monkeypatch.setenv("SEGOPS_GIT_DIRTY", "")
    assert "git_dirty" not in runs.origin()


def test_the_run_of_kubeflows_plugin_links_to_the_candidates_and_shows_its_last_epoch(
    tracking: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store.client()
    own = client.create_run(store.experiment_id(client, tracking.experiment), tags={"owner": "the plugin"})
    monkeypatch.setenv("SEGOPS_ENGINE", "kfp")
    monkeypatch.setenv("MLFLOW_RUN_ID", own.info.run_id)
    with _live(tracking, tmp_path / "spool") as run:
        for epoch in (1, 2):
            run.log_epoch(epoch, _row(epoch))
    shared, step = _run(tracking), client.get_run(own.info.run_id)
    assert shared.info.run_id != step.info.run_id
    assert step.data.tags["segops.candidate_run"] == shared.info.run_id
    assert (
        f"#/experiments/{shared.info.experiment_id}/runs/{shared.info.run_id}" in step.data.tags["mlflow.note.content"]
    )
    assert step.data.tags["owner"] == "the plugin"
    assert step.data.metrics == {"train/loss": 0.5, "train/learning_rate": 0.001, "val/dice": 0.2}
    assert step.info.status == "RUNNING"  # the plugin ends it


def test_a_run_of_the_plugin_that_is_not_there_stops_nothing(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGOPS_ENGINE", "kfp")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    names = own_names()
    with _live(names, tmp_path / "spool") as run:
        run.log_epoch(1, _row(1))
    assert _series(names, "val/dice") == [(1, 0.1)]
    said = capsys.readouterr()
    assert f"MLFLOW_RUN_ID {32 * '0'} is no run" in said.out + said.err


def test_a_killed_training_goes_on_in_the_same_run(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    with pytest.raises(KeyboardInterrupt), _live(tracking, tmp_path / "spool") as run:
        for epoch in (1, 2):
            run.log_epoch(epoch, _row(epoch))
        raise KeyboardInterrupt
    killed = _run(tracking)
    assert killed.info.status == "KILLED"
    with _live(tracking, tmp_path / "spool") as run:
        for epoch in (2, 3):  # the checkpoint was an epoch behind
            run.log_epoch(epoch, _row(epoch))
    assert _run(tracking).info.run_id == killed.info.run_id
    assert _run(tracking).info.status == "FINISHED"
    assert _series(tracking, "val/dice") == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_a_run_that_lost_its_spool_repeats_no_row(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    for spool in ("first", "second"):
        with _live(tracking, tmp_path / spool) as run:
            run.log_epoch(1, _row(1))
    assert _series(tracking, "val/dice") == [(1, 0.1)]


def test_panels_are_images_of_the_run_with_their_epochs_and_each_is_there_once(
    tracking: TrackingParams, tmp_path: Path
) -> None:
    def draw(*epochs: int) -> None:
        for epoch in epochs:
            folder = tmp_path / "panels" / f"epoch_{epoch:04d}"
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("i 1", "i2"):
                Image.new("RGB", (8, 2), (epoch, 0, 0)).save(folder / f"{name}.png")
            (folder / ".i3.png.partial").write_bytes(b"half")

    def images() -> list[tuple[str, int]]:
        run_id = _run(tracking).info.run_id
        paths = [file.path for file in store.client().list_artifacts(run_id, "images") if file.path.endswith(".png")]
        words = [path.removeprefix("images/").split("+") for path in paths]
        return sorted((key.replace("~", "/"), int(step)) for key, _, step, *_ in words)

    for epochs in ((1, 2), (2, 3)):  # the second one resumes: its checkpoint was an epoch behind
        with _live(tracking, tmp_path / "spool", panels=tmp_path / "panels", series="fold0/") as run:
            draw(*epochs)
            run.log_epoch(epochs[-1], _row(epochs[-1]))
    assert images() == [("pictures/gradcam_fold0", epoch) for epoch in (1, 2, 3)]  # both images in one picture


def test_a_run_says_how_far_it_is_and_until_when_and_how_it_ended(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()

    def progress() -> str:
        found = _find(tracking)
        return str(found.data.tags.get("progress", "")) if found else ""

    with _live(tracking, tmp_path / "spool", cheap_epochs=1) as run:
        run.log_epoch(1, _row(1))
        least = r"epoch 1 of 3, at least \d+ s left, until \d\d:\d\d UTC or later"
        wait_until(lambda: re.fullmatch(least, progress()) is not None)
        run.log_epoch(2, _row(2))
        wait_until(lambda: re.fullmatch(r"epoch 2 of 3, \d+ s left, until \d\d:\d\d UTC", progress()) is not None)
        run.log_epoch(3, _row(3))
    assert progress() == "finished at epoch 3 of 3"
    with pytest.raises(KeyboardInterrupt), _live(tracking, tmp_path / "spool") as run:
        run.log_epoch(2, _row(2))
        raise KeyboardInterrupt
    assert progress() == "killed at epoch 2 of 3"


def test_the_view_of_the_candidates_is_there_as_soon_as_one_trains(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    tags = {"dataset": "nuclei", "test_sha256": sha256_lines(["test"])}
    with _live(tracking, tmp_path / "spool", tags=tags):
        pass
    experiment = store.client().get_experiment_by_name(tracking.experiment)
    [view] = [json.loads(text) for tag, text in experiment.tags.items() if tag.startswith("mlflow.sharedViewState.")]
    assert view["name"] == f"Candidates on nuclei, test set {tags['test_sha256'][:8]}"


def test_a_failing_training_leaves_a_failed_run(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    with pytest.raises(ZeroDivisionError), _live(tracking, tmp_path / "spool") as run:
        run.log_epoch(1, _row(1))
        raise ZeroDivisionError
    assert _run(tracking).info.status == "FAILED"


@pytest.mark.slow
def test_a_server_that_dies_and_returns_has_every_epoch_once(
    tmp_path: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "_RETRY_S", 0.5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    tracking = own_names()
    try:
        with _live(tracking, tmp_path / "spool") as run:
            run.log_epoch(1, _row(1))
            wait_until(lambda: _series(tracking, "val/dice") == [(1, 0.1)])
            server.stop()
            for epoch in (2, 3):
                begin = time.monotonic()
                run.log_epoch(epoch, _row(epoch))
                assert time.monotonic() - begin < 1
                time.sleep(1.5)
            server.start()
            wait_until(lambda: len(_series(tracking, "val/dice")) == 3)
            run.log_epoch(4, _row(4))
        assert _series(tracking, "val/dice") == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
        assert _run(tracking).info.status == "FINISHED"
    finally:
        server.start()
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "does not answer" in line] == [said[0]]
    assert "training continues" in said[0]
    assert said[1:] == ["MLflow answers again; the spooled metrics are sent"]


def test_a_server_that_is_away_from_the_start_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    begin = time.monotonic()
    with _live(own_names(), tmp_path / "spool") as run:
        for epoch in (1, 2, 3):
            run.log_epoch(epoch, _row(epoch))
    assert time.monotonic() - begin < 10
    assert len((tmp_path / "spool").read_text().splitlines()) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_a_spool_that_cant_be_written_is_said_and_stops_nothing(
    file_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with _live(own_names(), tmp_path / "file" / "spool") as run:
        run.log_epoch(1, _row(1))
    assert "can't be written (" in capsys.readouterr().err


def test_sending_the_same_epoch_twice_is_one_row(tracking: TrackingParams) -> None:
    client = store.client()
    run = runs.open_run(client, experiment=tracking.experiment, candidate="small", key=KEY, params=PARAMS, tags={})
    epochs = [EpochMetrics(1, 1_700_000_000_000, {"val_dice": 0.5, "val_loss": float("nan")})]
    for _ in range(2):
        runs.log_epochs(client, run.info.run_id, epochs, set())  # as if the first answer was lost
    assert _series(tracking, "val/dice") == [(1, 0.5)]
    assert len(client.get_metric_history(run.info.run_id, "val/loss")) == 1


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("train_loss", "train/loss"),
        ("val_precision", "val/precision"),
        ("learning_rate", "train/learning_rate"),
        ("system/cpu", "system/cpu"),
    ],
)
def test_columns_of_the_history_become_metrics_by_prefix(column: str, name: str) -> None:
    assert runs.metric_name(column) == name
