"""Which store is used, and what a user reads when it can't be."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segops.errors import TryAgainError, UserError
from segops.params.tracking import TrackingParams
from segops.tracking import store
from tests.support.mlflow_server import MlflowServer, free_port

pytest_plugins = ["tests.support.mlflow_stores"]


def test_the_default_store_is_a_file_in_the_project(tmp_path: Path) -> None:
    assert store.tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_artifacts_of_a_store_without_a_server_stand_in_the_project(tmp_path: Path, file_store: Path) -> None:
    client = store.client()
    made = client.get_experiment(store.experiment_id(client, "mine"))
    assert made.artifact_location == (tmp_path / "mlartifacts").as_uri()
    assert store.experiment_id(client, "mine") == made.experiment_id


def test_an_experiment_is_made_once_in_every_kind_of_store(tracking: TrackingParams) -> None:
    client = store.client()
    first = store.experiment_id(client, tracking.experiment)
    assert store.experiment_id(client, tracking.experiment) == first


def test_a_deleted_experiment_is_named_with_the_way_back(tracking: TrackingParams) -> None:
    client = store.client()
    client.delete_experiment(store.experiment_id(client, tracking.experiment))
    with pytest.raises(UserError, match=f"'{tracking.experiment}' is deleted; restore it with `mlflow experiments"):
        store.experiment_id(client, tracking.experiment)


def test_a_dead_server_is_one_line_without_credentials_within_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{port}")
    begin = time.monotonic()
    with pytest.raises(TryAgainError) as caught:
        store.client()
    assert str(caught.value) == (
        f"MLflow at http://127.0.0.1:{port} does not answer (connection refused); "
        "see that the server runs and that MLFLOW_TRACKING_URI is right, or unset that for the project's own store"
    )
    assert time.monotonic() - begin < 10


def test_a_server_that_accepts_and_says_nothing_is_given_up_within_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(TryAgainError, match=r"does not answer \(timed out\)"):
            store.client()
        assert time.monotonic() - begin < 10


def test_a_dead_database_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="needs the driver of PostgreSQL")
    from mlflow.store.db import utils

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://me:hidden@127.0.0.1:{free_port()}/mlflow")
    with pytest.raises(TryAgainError, match=r"^MLflow at postgresql://127.* does not answer \(connection refused\)"):
        store.client()
    assert utils.MAX_RETRY_COUNT == 1  # ten tries take 100 s


def test_an_unknown_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://nobody.invalid:5000")
    with pytest.raises(TryAgainError, match=r"nobody.invalid:5000 does not answer"):
        store.client()


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "nonsense://x"])
def test_a_uri_that_mlflow_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI .* can't be used") as caught:
        store.client()
    assert "\n" not in str(caught.value)


def test_a_store_that_cant_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match="can't be written, so MLflow can't keep its store there"):
        store.client()


def test_importing_keeps_a_users_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    store.import_mlflow()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_server_is_asked_without_what_databases_need(server: MlflowServer) -> None:
    code = "import sys; from segops.tracking import store; store.client(); print('sqlalchemy' in sys.modules)"
    asked = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MLFLOW_TRACKING_URI": server.uri},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (asked.stdout, asked.stderr) == ("False\n", "")


def test_artifacts_go_through_the_server_unless_a_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    monkeypatch.delenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", raising=False)
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    store.import_mlflow()
    artifacts = MlflowArtifactsRepository("mlflow-artifacts:/1", tracking_uri="http://127.0.0.1:9")
    assert artifacts._is_multipart_download_enabled() is False
    assert artifacts._is_multipart_upload_enabled() is True


def test_a_server_that_comes_back_is_waited_for_with_one_line_at_each_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: MlflowServer
) -> None:
    monkeypatch.setattr(store, "_PAUSE_S", 0.05)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    answers = iter([False, False, True])
    probe = store._probe

    def away_twice(uri: str) -> None:
        probe(uri if next(answers) else f"http://127.0.0.1:{free_port()}")

    monkeypatch.setattr(store, "_probe", away_twice)
    store.client(TrackingParams(patience_s=60)).search_experiments()
    first, last = capsys.readouterr().err.splitlines()
    assert re.search(r"does not answer \(connection refused\); .*; waiting for it, at most 6?\d s$", first)
    assert re.fullmatch(f"MLflow at {server.uri} answers after \\d+ s", last)


def test_who_names_no_params_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(TryAgainError, match="does not answer"):
        store.client()


@pytest.mark.parametrize(
    ("engine", "given", "expected_s"), [("cli", None, 30), ("kfp", None, 900), ("kfp", 5, 5), ("dvc", 0, 0)]
)
def test_a_step_waits_longer_than_a_person_unless_params_say_how_long(
    monkeypatch: pytest.MonkeyPatch, engine: str, given: float | None, expected_s: float
) -> None:
    monkeypatch.setenv("SEGOPS_ENGINE", engine)
    assert store._patience_s(TrackingParams(patience_s=given)) == expected_s
