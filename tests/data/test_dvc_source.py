"""Sources in DVC repositories: revisions, and what can be wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from segops.data.sources import download
from segops.data.sources.dvc_repo import Location, parse
from segops.data.sources.source import DOWNLOADS, open_source
from segops.errors import OneLineError, UserError
from tests.support.dvc_repos import DvcRepo


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> DvcRepo:
    """v1 with raw/a.png, raw/b.png; v2 changes b and isn't pushed; kept.txt is git's."""
    folder = tmp_path_factory.mktemp("origin")
    repo = DvcRepo.make(folder / "repo", folder / "store")
    (repo.folder / "raw").mkdir()
    (repo.folder / "raw/a.png").write_bytes(b"a")
    (repo.folder / "raw/b.png").write_bytes(b"b")
    (repo.folder / "plain").mkdir()
    (repo.folder / "plain/kept.txt").write_text("git's")
    repo.commit("v1", "raw")
    (repo.folder / "raw/b.png").write_bytes(b"bb")
    repo.commit("v2", "raw", push=False)
    return repo


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    return tmp_path


@pytest.fixture
def repo(origin: DvcRepo, tmp_path: Path) -> DvcRepo:
    """A copy to break."""
    shutil.copytree(origin.folder, tmp_path / "repo", symlinks=True)
    shutil.copytree(origin.store, tmp_path / "store")
    copy = DvcRepo(tmp_path / "repo", tmp_path / "store")
    copy.run("dvc", "remote", "modify", "-q", "--local", "store", "url", str(copy.store))
    return copy


def read(uri: str, project: Path) -> dict[str, bytes]:
    with open_source(uri, scratch=project / "scratch") as source:
        return {name: source.read(name) for name in source.names}


def complaint(uri: str, project: Path) -> str:
    with pytest.raises(OneLineError) as error:
        read(uri, project)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("dvc://.@v1#raw", Location(".", "v1", "raw")),
        ("dvc://../archive#raw/images.zip", Location("../archive", None, "raw/images.zip")),
        ("dvc://../archive@feature/x#raw", Location("../archive", "feature/x", "raw")),
        ("dvc://git@host:org/repo.git@v1#raw/", Location("git@host:org/repo.git", "v1", "raw")),
        ("dvc://git@host:org/repo.git#raw", Location("git@host:org/repo.git", None, "raw")),
        ("dvc://https://u:token@host/org/repo@v1#raw", Location("https://u:token@host/org/repo", "v1", "raw")),
        ("dvc://https://host/org/repo#raw", Location("https://host/org/repo", None, "raw")),
    ],
)
def test_a_uri_has_a_repository_a_revision_and_a_path(uri: str, expected: Location) -> None:
    assert parse(uri, "ingest.source") == expected


@pytest.mark.parametrize(
    "uri", ["dvc://", "dvc://repo", "dvc://repo@v1", "dvc://@v1#raw", "dvc://repo@#raw", "dvc://r@v1#", "dvc://r#../x"]
)
def test_another_form_is_refused_with_the_right_one(uri: str) -> None:
    with pytest.raises(UserError, match=r"ingest\.base: dvc://.*: not of the form dvc://REPO@REVISION#PATH"):
        parse(uri, "ingest.base")


def test_a_token_in_the_repositorys_url_is_never_shown(project: Path) -> None:
    text = complaint("dvc://https://user:hidden@127.0.0.1:9/org/repo.git@v1#raw", project)
    assert text.startswith("dvc://https://127.0.0.1:9/org/repo.git@v1#raw: can't clone it")
    assert "hidden" not in text


def test_each_revision_has_its_own_content_and_no_revision_is_the_last_commit(repo: DvcRepo, project: Path) -> None:
    assert read("dvc://repo@v1#raw", project) == {"a.png": b"a", "b.png": b"b"}
    assert read("dvc://repo@v2#raw", project) == {"a.png": b"a", "b.png": b"bb"}
    (repo.folder / "raw/a.png").unlink()
    (repo.folder / "raw/a.png").write_bytes(b"not committed")
    assert read("dvc://repo#raw", project) == {"a.png": b"a", "b.png": b"bb"}
    assert read("dvc://repo@v1#plain", project) == {"kept.txt": b"git's"}
    with open_source("dvc://repo@v1#raw", scratch=project / "scratch") as source:
        assert source.revision == repo.run("git", "rev-parse", "v1")


def test_content_comes_from_the_remote_where_the_cache_has_none(repo: DvcRepo, project: Path) -> None:
    shutil.rmtree(repo.folder / ".dvc/cache")
    assert read("dvc://repo@v1#raw", project) == {"a.png": b"a", "b.png": b"b"}
    assert "neither DVC's cache nor its remote has the content; `dvc push`" in complaint("dvc://repo@v2#raw", project)


def test_a_repository_without_a_remote_says_so(repo: DvcRepo, project: Path) -> None:
    shutil.rmtree(repo.folder / ".dvc/cache")
    for where in ([], ["--local"]):
        repo.run("dvc", "remote", "remove", "-q", *where, "store")
    repo.run("git", "commit", "-qam", "no remote")
    assert "add a DVC remote" in complaint("dvc://repo#raw", project)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("dvc://repo@v9#raw", "dvc://repo@v9#raw: there is no revision 'v9'; name a branch, tag or commit"),
        ("dvc://repo@v1#row", "dvc://repo@v1#row: there is no such file or folder at this revision; correct the path"),
        ("dvc://nowhere@v1#raw", "dvc://nowhere@v1#raw: can't clone it"),
        ("dvc://plain@v1#raw", "dvc://plain@v1#raw: "),
    ],
)
def test_what_isnt_there_is_named(uri: str, expected: str, repo: DvcRepo, project: Path) -> None:
    (project / "plain").mkdir()
    assert complaint(uri, project).startswith(expected)
    assert not [path for path in (project / DOWNLOADS).rglob("*") if path.suffix != ".lock"]


def test_a_damaged_stored_file_never_becomes_a_source(repo: DvcRepo, project: Path) -> None:
    shutil.rmtree(repo.folder / ".dvc/cache")
    (stored,) = [path for path in repo.store.rglob("*") if path.is_file() and path.read_bytes() == b"b"]
    stored.chmod(0o644)
    stored.write_bytes(b"x")
    text = complaint("dvc://repo@v1#raw", project)
    assert "raw/b.png arrived with MD5" in text
    assert "push it again from a copy that is whole" in text
    stored.write_bytes(b"b")
    assert read("dvc://repo@v1#raw", project) == {"a.png": b"a", "b.png": b"b"}


def test_files_that_arrived_stay_for_the_next_try(
    repo: DvcRepo, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.api import DVCFileSystem

    asked: list[list[str]] = []
    get = DVCFileSystem.get

    def cut_off(self: DVCFileSystem, rpaths: list[str], lpaths: list[str], **given: object) -> None:
        asked.append(rpaths)
        get(self, rpaths[:1], lpaths[:1], **given)
        if len(asked) == 1:
            raise ConnectionResetError("the connection was cut")

    monkeypatch.setattr(DVCFileSystem, "get", cut_off)
    assert read("dvc://repo@v1#raw", project) == {"a.png": b"a", "b.png": b"b"}
    assert asked == [["raw/a.png", "raw/b.png"], ["raw/b.png"]]


def test_a_storage_that_stays_away_is_given_up(repo: DvcRepo, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr("dvc.api.DVCFileSystem.get", lambda *_, **__: away())
    assert "dvc://repo@v1#raw: timed out, 5 times in a row" in complaint("dvc://repo@v1#raw", project)
