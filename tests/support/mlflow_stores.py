"""Fixtures that run a test over a file store and a real server; a test module names them in `pytest_plugins`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from segops.params.tracking import TrackingParams
from tests.support.mlflow_server import MlflowServer, own_names


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty sqlite store, which is made once since that takes seconds. SEGOPS_EMPTY_STORE names one that is kept."""
    from segops.tracking.store import import_mlflow

    kept = os.environ.get("SEGOPS_EMPTY_STORE")
    path = Path(kept) if kept else tmp_path_factory.mktemp("store") / "mlflow.db"
    if not path.is_file():
        import_mlflow().MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[MlflowServer]:
    """One server for all tests of a session."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_store, folder / "server.db")
    running = MlflowServer(folder)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def file_store(tmp_path: Path, empty_store: Path) -> Path:
    """The project's default store, empty."""
    return Path(shutil.copyfile(empty_store, tmp_path / "mlflow.db"))


@pytest.fixture(params=["file", "server"])
def tracking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TrackingParams:
    """Tracking params for a store of each kind; names of their own, since tests share the server."""
    if request.param == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("server").uri)
    else:
        request.getfixturevalue("file_store")
    return own_names()
