"""lakeFS as a source: which state is read, and what is said where it can't be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from segops.data.sources import download
from segops.data.sources.source import DOWNLOADS, open_source
from segops.data.sources.states import source_state
from segops.errors import TryAgainError, UserError
from tests.support.lakefs_server import SECRET, LakeFS, lakefs_server, use_lakefs
from tests.support.remote_servers import put_objects

FIRST, SECOND = "1" * 64, "2" * 64
REFERENCES = {"main": SECOND, "main~1": FIRST, "v1": FIRST, FIRST: FIRST, SECOND: SECOND}


@pytest.fixture(scope="module")
def server() -> Iterator[LakeFS]:
    with lakefs_server(LakeFS({"lake-cells": REFERENCES})) as running:
        objects = {f"{FIRST}/raw/a.txt": b"first", f"{SECOND}/raw/a.txt": b"second", "main/raw/a.txt": b"not committed"}
        put_objects(running.url, "lake-cells", {**objects, f"{SECOND}/raw2/b.txt": b"beside"})
        yield running


@pytest.fixture(autouse=True)
def project(tmp_path: Path, server: LakeFS, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_lakefs(monkeypatch, server.url)
    server.references = {"lake-cells": dict(REFERENCES)}
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "scratch").mkdir()
    return tmp_path


def contents(project: Path, uri: str) -> tuple[dict[str, bytes], str | None]:
    with open_source(uri, scratch=project / "scratch") as source:
        return {name: source.read(name) for name in source.names}, source.revision


@pytest.mark.parametrize(
    ("reference", "commit", "content"),
    [("main", SECOND, b"second"), ("main~1", FIRST, b"first"), ("v1", FIRST, b"first"), (FIRST, FIRST, b"first")],
)
def test_the_commit_is_read_and_named_whatever_a_branch_holds_uncommitted(
    project: Path, reference: str, commit: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert contents(project, f"lakefs://lake-cells/{reference}/raw") == ({"a.txt": content}, commit)
    said = capsys.readouterr().err
    told = f"lakefs://lake-cells/{reference}/raw: {reference} is commit {commit}; what isn't committed isn't in it"
    assert (told in said) == (reference != commit)


def test_a_branch_that_moves_is_another_state_and_a_commit_never_is(project: Path, server: LakeFS) -> None:
    branch, commit = (f"lakefs://lake-cells/{reference}/raw" for reference in ("main", SECOND))
    assert source_state(branch, param="ingest.source") == source_state(commit, param="ingest.source")
    server.references["lake-cells"]["main"] = FIRST
    assert source_state(branch, param="ingest.source") == f"commit {FIRST}"
    assert source_state(commit, param="ingest.source") == f"commit {SECOND}"
    assert contents(project, branch)[0] == {"a.txt": b"first"}


def test_the_whole_repository_is_what_no_path_names(project: Path) -> None:
    assert set(contents(project, "lakefs://lake-cells/main")[0]) == {"raw/a.txt", "raw2/b.txt"}


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("lakefs://lake-cells", "ingest.source: lakefs://lake-cells: write lakefs://repository/branch/archive.zip or"),
        ("lakefs://other/main/raw", "there is no such repository, branch, tag or commit; correct the URI"),
        ("lakefs://lake-cells/gone/raw", "there is no such repository, branch, tag or commit; correct the URI"),
        ("lakefs://lake-cells/main/empty", f"lakefs://lake-cells/{SECOND}/empty/: nothing stands below it; correct"),
        ("lakefs://lake-cells/main/raw.zip", f"lakefs://lake-cells/{SECOND}/raw.zip: there is no such object; correct"),
        ("lakefS://lake-cells/main/raw", "unknown kind of source 'lakefS://'; did you mean 'lakefs://'?"),
    ],
)
def test_a_place_that_is_not_there_is_a_line(project: Path, uri: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        contents(project, uri)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"LAKECTL_SERVER_ENDPOINT_URL": ""}, "LAKECTL_SERVER_ENDPOINT_URL isn't set; set it as for lakeFS's own"),
        ({"LAKECTL_SERVER_ENDPOINT_URL": "lake.lab.test"}, "LAKECTL_SERVER_ENDPOINT_URL is lake.lab.test; write https"),
        (
            {"LAKECTL_SERVER_ENDPOINT_URL": "http://lake.lab.test"},
            "http://lake.lab.test: the secret of LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY would be sent unencrypted",
        ),
        (
            {"LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": f"{SECRET}-of-another"},
            "the key or its secret is unknown; correct LAKECTL_CREDENTIALS_ACCESS_KEY_ID and",
        ),
    ],
)
def test_settings_that_do_not_do_are_a_line_without_the_secret(
    project: Path, changed: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        contents(project, "lakefs://lake-cells/main/raw")
    assert line in str(error.value)
    assert SECRET not in str(error.value)


def test_an_endpoint_may_end_as_the_api_does_and_nothing_keeps_the_secret(
    project: Path, server: LakeFS, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", f"{server.url}/api/v1/")
    assert contents(project, "lakefs://lake-cells/v1/raw")[0] == {"a.txt": b"first"}
    kept = [path for path in (project / DOWNLOADS).rglob("*") if path.is_file()]
    assert kept
    assert not any(SECRET in f"{path}" or SECRET.encode() in path.read_bytes() for path in kept)
    assert SECRET not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ((403, "{}"), "access denied; ask for fs:ReadCommit, fs:ReadObject and fs:ListObjects on the repository"),
        ((410, "{}"), "the repository is being deleted; correct the URI"),
        ((200, "<html>welcome</html>"), "what answers isn't lakeFS; correct LAKECTL_SERVER_ENDPOINT_URL"),
        ((200, '{"id": "main"}'), "what answers isn't lakeFS; correct LAKECTL_SERVER_ENDPOINT_URL"),
        ((200, "[]"), "what answers isn't lakeFS; correct LAKECTL_SERVER_ENDPOINT_URL"),
        ((302, ""), "what answers isn't lakeFS; correct LAKECTL_SERVER_ENDPOINT_URL"),
    ],
)
def test_an_answer_that_is_no_commit_is_a_line(
    project: Path, server: LakeFS, fault: tuple[int, str], line: str
) -> None:
    server.faults.append(fault)
    with pytest.raises(UserError) as error:
        contents(project, "lakefs://lake-cells/main/raw")
    assert str(error.value) == f"lakefs://lake-cells/main/raw: {line}"


def test_a_server_that_is_away_is_asked_again(project: Path, server: LakeFS) -> None:
    server.faults += [(503, ""), (429, "")]
    assert contents(project, "lakefs://lake-cells/main/raw")[1] == SECOND
    server.faults += [(503, "")] * 5
    with pytest.raises(
        TryAgainError, match=r"^lakefs://lake-cells/main/raw: lakeFS answered 503, 5 times in a row; see"
    ):
        contents(project, "lakefs://lake-cells/main/raw")
