"""The store in the project's folder: made whole or not at all, known when broken, at home where its folder is."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from segops.errors import DiskFullError, UserError
from segops.tracking import own_store, registry, store
from tests.support.judged_candidates import add_version
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]

_CONNECT = "from segops.tracking import store; print(len(store.client().search_experiments()))"


def _connecting(root: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "DVC_ROOT": str(root)}
    return subprocess.Popen(
        [sys.executable, "-c", _CONNECT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///mlflow.db", "{root}/mlflow.db"),
        ("sqlite:///deep/m.db?timeout=5", "{root}/deep/m.db"),
        ("sqlite:////srv/m.db", "/srv/m.db"),
        ("SQLite+pysqlite:///m.db", "{root}/m.db"),
        ("postgresql://host/db", None),
        ("http://host", None),
    ],
)
def test_a_sqlite_uri_names_a_file_below_the_project_or_anywhere(tmp_path: Path, uri: str, file: str | None) -> None:
    expected = None if file is None else Path(file.format(root=tmp_path))
    assert own_store.sqlite_file(uri) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite://mlflow.db", "sqlite:/mlflow.db", "sqlite:mlflow.db", "sqlite://", "sqlite:///", "sqlite:///:memory:",
        "sqlite://///five.db", "sqlite:///?timeout=5",
    ],
)  # fmt: skip
def test_a_sqlite_uri_without_a_file_is_one_line(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"names no file: `sqlite:///mlflow.db`, with three slashes"):
        store.client()


@pytest.mark.parametrize("uri", ["http:/host:5000", "http://", "https:host"])
def test_a_servers_uri_without_a_host_is_one_line(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="names no host: write it as http://HOST:PORT"):
        store.client()


def test_a_killed_first_command_and_two_at_once_leave_a_whole_store(tmp_path: Path) -> None:
    killed = _connecting(tmp_path)
    partial = tmp_path / ".mlflow.db.partial"
    while not (partial.exists() and partial.stat().st_size > 0):
        assert killed.poll() is None
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "mlflow.db").exists()
    together = [_connecting(tmp_path) for _ in range(2)]
    assert [process.communicate()[0] for process in together] == ["1\n", "1\n"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".segops", "mlflow.db"]


def test_a_full_disk_leaves_no_store_and_the_next_command_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import OperationalError

    def full(self: object, uri: str, artifacts: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half")
        raise OperationalError("CREATE TABLE", {}, Exception("database or disk is full"))

    with monkeypatch.context() as disk:
        disk.setattr(SqlAlchemyStore, "__init__", full)
        with pytest.raises(DiskFullError, match=r"can't write .*mlflow.db: no space left on its disk \(/"):
            store.client()
    assert [path.name for path in tmp_path.iterdir()] == [".segops"]


def test_an_empty_file_becomes_the_store(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").touch()
    monkeypatch.setattr(own_store, "_make", lambda path: shutil.copyfile(empty_store, path))
    assert len(store.client().search_experiments()) == 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("DELETE FROM experiments", "is half a store: whatever made it was cut off; nothing is in it: `mv "),
        ("DROP TABLE experiments", "is half a store"),
        ("PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'nonsense'", "is no database, or a broken one"),
    ],
)
def test_half_a_store_is_known_and_what_to_move_is_said(file_store: Path, spoil: str, said: str) -> None:
    with closing(sqlite3.connect(file_store)) as database:
        database.executescript(spoil)
    with pytest.raises(UserError, match=rf"^{file_store} {said}"):
        store.client()


@pytest.mark.parametrize("content", [b"hello, this is a text file\n" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_what_is_no_database_is_said_with_the_way_to_mend_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path} is no database, or a broken one \(.*\): `mv {path} {path}.broken`"):
        store.client()


def test_a_folder_in_the_stores_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(UserError, match="a folder stands where MLflow's store should be"):
        store.client()


@pytest.mark.parametrize("keep", [True, False], ids=["copied", "moved"])
def test_a_copied_or_moved_project_reads_and_writes_in_its_own_place(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    tracking, first, second = own_names(), tmp_path / "a project", tmp_path / "b"
    first.mkdir()
    shutil.copyfile(empty_store, first / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(first))
    version = add_version(first, tracking, "net")
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file() and path.name != "mlflow.db"}
    if keep:
        shutil.copytree(first, second)
    else:
        first.rename(second)
    monkeypatch.setenv("DVC_ROOT", str(second))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # set by mlflow, for this process
    fetched = registry.fetch_model(tracking, str(version), tmp_path / "fetched")
    stored = next(second.glob("mlartifacts/**/weights.safetensors"))
    assert (fetched / "weights.safetensors").read_bytes() == stored.read_bytes()
    add_version(second, tracking, "other")
    assert len(list(second.glob("mlartifacts/**/weights.safetensors"))) == 2
    client = store.client()
    places = [run.info.artifact_uri for run in client.search_runs([store.experiment_id(client, tracking.experiment)])]
    assert {place.startswith((second / "mlartifacts").as_uri()) for place in places} == {True}
    if keep:
        assert all(path.read_bytes() == content for path, content in before.items())
    else:
        assert not first.exists()


def test_an_experiment_whose_artifacts_are_elsewhere_stays_there(tmp_path: Path, file_store: Path) -> None:
    client = store.client()
    client.create_experiment("elsewhere", artifact_location="s3://bucket/mlartifacts")
    client.create_experiment("on a share", artifact_location="file:///share/of/us")
    store.client()
    assert client.get_experiment_by_name("elsewhere").artifact_location == "s3://bucket/mlartifacts"
    assert client.get_experiment_by_name("on a share").artifact_location == "file:///share/of/us"
