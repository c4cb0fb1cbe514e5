"""`make data-push` and `make data-pull` against a real S3 server, configured by the environment alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dvc_repos import DvcRepo
from tests.support.remote_servers import put_objects, s3_server, use_aws


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def repo(root: Path, tmp_path: Path) -> DvcRepo:
    """A repository with the project's Makefile and an archive that DVC tracks."""
    made = DvcRepo.make(tmp_path / "repo", tmp_path / "unused")
    made.run("dvc", "remote", "remove", "-q", "store")
    shutil.copy(root / "Makefile", made.folder)
    (made.folder / "raw.zip").write_bytes(b"archive")
    made.commit("v1", "raw.zip", push=False)
    return made


def make(repo: DvcRepo, goal: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    return subprocess.run(
        ["make", "-s", "-o", ".venv/run", goal], cwd=repo.folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_what_was_pushed_comes_back_and_no_secret_is_written(
    repo: DvcRepo, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_aws(monkeypatch, endpoint)
    put_objects(endpoint, "archive", {})
    monkeypatch.setenv("SEGOPS_DVC_REMOTE", "s3://archive/dvc")
    pushed = make(repo, "data-push")
    assert pushed.returncode == 0, pushed.stderr
    shutil.rmtree(repo.folder / ".dvc/cache")
    (repo.folder / "raw.zip").unlink()
    pulled = make(repo, "data-pull")
    assert pulled.returncode == 0, pulled.stderr
    assert (repo.folder / "raw.zip").read_bytes() == b"archive"
    assert repo.run("git", "status", "--porcelain", "--", ".dvc", "raw.zip.dvc") == ""
    for config in (repo.folder / ".dvc").glob("config*"):
        assert "hidden-secret" not in config.read_text()


@pytest.mark.parametrize("goal", ["data-push", "data-pull"])
def test_without_a_remote_there_is_one_line(repo: DvcRepo, goal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGOPS_DVC_REMOTE", raising=False)
    made = make(repo, goal)
    assert made.returncode != 0
    assert made.stderr.splitlines()[0] == "set SEGOPS_DVC_REMOTE, such as s3://bucket/prefix, and the AWS variables"
