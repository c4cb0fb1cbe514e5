"""Backup and restore: the folder's own rules over a small S3 server, and the whole way over a team's real servers."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from infra.kubernetes import manifests
from segops.commands.promote import promote, rollback
from segops.params.compare import CompareParams
from segops.params.promote import PromoteParams
from segops.params.register import RegisterParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.compare import compare
from segops.stages.register import register
from segops.tracking import signing, store
from segops.tracking.ledger import Ledger
from tests.support.judged_candidates import folders, write_candidate
from tests.support.mlflow_server import own_names
from tests.support.postgresql import Server as PostgreSQL
from tests.support.remote_servers import s3_server, use_aws
from tests.support.team_servers import PASSWORDS, Team, seaweedfs, started

pytest_plugins = ["tests.support.postgresql"]
RUNTIME = RuntimeParams(threads=1, device="cpu")
SCRIPT = manifests.HERE / "base" / "backup" / "backup.py"


class Place:
    """A backup's folder beside a bucket of an S3 server, with the dumps of two databases."""

    def __init__(self, root: Path, endpoint: str, script: ModuleType, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.dumps, self._script, self._patch = root / "backup", root / "dumps", script, patch
        self.dumps.mkdir()
        for name in ("mlflow", "mlflow_auth"):
            (self.dumps / f"{name}.dump").write_bytes(name.encode())
        use_aws(patch, endpoint)
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("BUCKETS", "mlflow")
        patch.setenv("KEEP", "2")
        self.client = boto3.client("s3", endpoint_url=endpoint)
        self.client.create_bucket(Bucket="mlflow")

    def put(self, **objects: bytes) -> None:
        for key, content in objects.items():
            self.client.put_object(Bucket="mlflow", Key=key, Body=content)

    def run(self, *words: str) -> str | None:
        """The line that it ends with; None: all went well."""
        self._patch.setattr(sys, "argv", ["backup.py", words[0], str(self.dumps), str(self.folder), *words[1:]])
        try:
            self._script.main()
        except SystemExit as end:
            return str(end.code)
        return None

    def copy(self) -> str:
        """Another backup's name."""
        assert self.run("copy") is None
        return max(path.name for path in self.folder.iterdir() if path.name[0] == "2")

    def contents(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in (self.folder / "objects").rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("backup", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with s3_server() as endpoint:
        requests.post(f"{endpoint}/moto-api/reset", timeout=10)
        yield Place(tmp_path, endpoint, script, monkeypatch)


def test_a_backup_adds_what_is_new_and_old_ones_go_with_what_they_alone_hold(place: Place) -> None:
    place.put(a=b"1", same=b"1", b=b"2")
    first = place.copy()
    assert place.contents() == [b"1", b"2"]
    listed = json.loads((place.folder / first / "backup.json").read_text())
    assert listed["buckets"]["mlflow"]["same"] == [
        hashlib.sha256(b"1").hexdigest(),
        1,
        f'"{hashlib.md5(b"1").hexdigest()}"',
    ]
    assert (place.folder / first / "mlflow.dump").read_bytes() == b"mlflow"
    place.put(b=b"3", c=b"4")
    (place.folder / ".20200101T000000000000Z-aaaaaaaaaaaa").mkdir()  # an interrupted backup's
    second = place.copy()
    assert place.contents() == [b"1", b"2", b"3", b"4"]
    place.put(d=b"5")
    third = place.copy()
    assert sorted(path.name for path in place.folder.iterdir()) == [".lock", second, third, "objects"]
    assert place.contents() == [b"1", b"3", b"4", b"5"]


def test_half_the_objects_gone_removes_no_earlier_backup(place: Place) -> None:
    place.put(**{f"k{number}": bytes([number]) for number in range(5)})
    names = [place.copy()]
    place.put(more=b"more")
    names.append(place.copy())
    for number in range(4):
        place.client.delete_object(Bucket="mlflow", Key=f"k{number}")
    assert place.run("copy") == "backup: 6 objects before, 2 now; taken, and no earlier backup was removed"
    assert all((place.folder / name).is_dir() for name in names)


def test_a_second_process_waits_for_nothing_and_says_so(place: Place) -> None:
    place.put(a=b"1")
    place.copy()
    with (place.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert place.run("copy") == f"copy: another backup or restore has {place.folder}: wait for its end"


@pytest.mark.parametrize("kind", ["changed", "missing", "shortened", "dump", "list", "no list"])
def test_a_torn_backup_is_refused_before_anything_is_touched(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put(a=b"first", b=b"second")
    name = place.copy()
    stored = place.folder / "objects" / (digest := hashlib.sha256(b"first").hexdigest())[:2] / digest
    listing = place.folder / name / "backup.json"
    match kind:
        case "changed":
            stored.write_bytes(b"firsd")
        case "missing":
            stored.unlink()
        case "shortened":
            stored.write_bytes(b"firs")
        case "dump":
            (place.folder / name / "mlflow.dump").write_bytes(b"mlflo")
        case "list":
            listing.write_text(listing.read_text().replace('"a"', '"c"'))
        case "no list":
            listing.unlink()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # whoever asked it would fail otherwise
    line = place.run("restore") or ""
    assert line.startswith(f"restore: {name} is torn, nothing was touched: {place.folder}")
    assert "\n" not in line


def test_a_backup_that_is_not_there_is_one_line(place: Place) -> None:
    assert place.run("restore") == f"restore: {place.folder} has no backup ; there are: none"
    place.put(a=b"1")
    name = place.copy()
    assert place.run("restore", "other") == f"restore: {place.folder} has no backup other; there are: {name}"
    (place.dumps / "mlflow.dump").unlink()
    (place.dumps / "mlflow_auth.dump").unlink()
    assert place.run("copy") == f"backup: {place.dumps} holds no dump: dump.sh comes first"


def _make(root: Path, target: str, folder: Path, database_port: int, s3_port: int, user: str, key: str) -> Any:
    """`make backup` or `make restore` of servers on this machine."""
    names = {"PGHOST": "127.0.0.1", "PGPORT": str(database_port), "PGUSER": user, "PGDATABASE": "mlflow"}
    names |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}", "AWS_DEFAULT_REGION": "us-east-1"}
    names |= {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": PASSWORDS[f"S3_{key.upper()}_KEY"]}
    names |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["make", "--no-print-directory", "--silent", target, "PLAIN=1", f"FOLDER={folder}"]
    return subprocess.run(command, cwd=root, env=os.environ | names, capture_output=True, text=True, timeout=300)


def _sign_in(monkeypatch: pytest.MonkeyPatch, team: Team, login: dict[str, str]) -> None:
    for name, value in {"MLFLOW_TRACKING_URI": team.proxying, **login}.items():
        monkeypatch.setenv(name, value)


def _decided(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingParams:
    """Two versions, signed decisions that made the one and then the other the champion, and one back."""
    tracking = own_names().model_copy(update={"decision_keys": (signing.keygen(tmp_path / "ann.pem"),)})
    places = folders(tmp_path)
    _sign_in(monkeypatch, team, team.login)
    for name, dice in (("first", 0.8), ("second", 0.9)):
        write_candidate(tmp_path, name, test=[dice - 0.1, dice])
        register(RegisterParams(), tracking, model=places.models / name, report=places.reports / name)
    compare(
        CompareParams(), tracking, ["first", "second"],
        reports=places.reports, models=places.models, comparison=places.comparison,
    )  # fmt: skip
    _sign_in(monkeypatch, team, team.promoter)
    monkeypatch.setenv("SEGOPS_SIGNING_KEY", str(tmp_path / "ann.pem"))
    for version in ("1", "2"):
        promote(version, PromoteParams(), RUNTIME, tracking, confirm=lambda _: True, override="a test")
    rollback(tracking, confirm=lambda _: True)
    return tracking


def _everything(team: Team, tracking: TrackingParams, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a client of a team's MLflow sees: runs, versions, aliases, decisions, and each artifact's bytes."""
    _sign_in(monkeypatch, team, team.login)
    client = store.client()
    experiments = [one.experiment_id for one in client.search_experiments(view_type=3)]
    runs = sorted((run.to_dictionary() for run in client.search_runs(experiments, run_view_type=3)), key=str)
    model = client.get_registered_model(tracking.model_name)
    versions = [dict(one) for one in client.search_model_versions(f"name = '{tracking.model_name}'")]
    snapshot = Ledger(client, tracking).read()
    bucket = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{team.s3_port}", region_name="us-east-1",
        aws_access_key_id="admin", aws_secret_access_key=PASSWORDS["S3_ADMIN_KEY"],
    )  # fmt: skip
    pages = bucket.get_paginator("list_objects_v2").paginate(Bucket="mlflow")
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    through_mlflow = {
        path.path: client.download_artifacts(run["info"]["run_id"], path.path)
        for run in runs
        for path in client.list_artifacts(run["info"]["run_id"])
        if not path.is_dir
    }
    return {
        "runs": runs,
        "versions": [{key: str(value) for key, value in one.items()} for one in versions],
        "aliases": model.aliases,
        "tags": model.tags,
        "decisions": snapshot.lines,
        "signed": [entry.signed for entry in snapshot.entries],
        "problems": snapshot.problems(),
        "objects": {key: bucket.get_object(Bucket="mlflow", Key=key)["Body"].read() for key in keys},
        "artifacts": {name: Path(path).read_bytes() for name, path in through_mlflow.items()},
    }


@pytest.fixture
def other() -> Iterator[PostgreSQL]:
    """A second server."""
    folder = Path(mkdtemp(prefix="segops-pg-"))
    server = PostgreSQL(folder)
    server.start()
    server.make("segops")
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_registry_ledger_and_artifacts_are_equal_after_a_restore(
    root: Path, postgresql: PostgreSQL, other: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    weed, folder = seaweedfs(), tmp_path / "backup"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with started(postgresql, weed, tmp_path / "one", offering=False) as team:
        tracking = _decided(team, tmp_path, monkeypatch)
        before = _everything(team, tracking, monkeypatch)
        taken = _make(root, "backup", folder, team.database_port, team.s3_port, "backup", "backup")
        assert taken.returncode == 0, taken.stderr
        assert f": 2 databases, {len(before['objects'])} objects" in taken.stdout
        refused = _make(root, "restore", folder, team.database_port, team.s3_port, "mlflow", "admin")
        assert refused.returncode != 0
        line = refused.stderr.splitlines()[0]
        assert line.startswith("restore: needs an empty place, nothing was touched: database mlflow holds ")
        assert "database mlflow_auth holds " in line
        # The account of the backup reads and changes nothing.
        where = f"host=127.0.0.1 port={team.database_port} dbname=mlflow user=backup"
        with psycopg.connect(where) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM experiments")
        reader = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{team.s3_port}", region_name="us-east-1",
            aws_access_key_id="backup", aws_secret_access_key=PASSWORDS["S3_BACKUP_KEY"],
        )  # fmt: skip
        with pytest.raises(ClientError, match="AccessDenied"):
            reader.put_object(Bucket="mlflow", Key="mine", Body=b"")
        assert _everything(team, tracking, monkeypatch) == before

    def fill(database_port: int, s3_port: int) -> None:
        restored = _make(root, "restore", folder, database_port, s3_port, "mlflow", "admin")
        assert restored.returncode == 0, restored.stderr

    with started(other, weed, tmp_path / "two", fill, offering=False) as team:
        after = _everything(team, tracking, monkeypatch)
        assert before["aliases"]["champion"] == "1"
        assert len(before["decisions"]) == 3
        assert all(before["signed"])
        assert (after["problems"], after) == ([], before)
        _sign_in(monkeypatch, team, team.promoter)
        # Accounts and passwords are as before, and the ledger goes on.
        following = promote("2", PromoteParams(), RUNTIME, tracking, confirm=lambda _: True, override="a test")
        assert (following.number, following.from_version) == (4, 1)
    sizes = [len(content) for content in before["objects"].values()]
    sys.stderr.write(f"{len(before['runs'])} runs, {len(sizes)} objects, {sum(sizes)} bytes\n")
