"""Sources behind S3 and HTTP: the same members as from a folder, and what happens when servers misbehave."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from segops.data.sources import download, http, s3
from segops.data.sources.source import DOWNLOADS, open_source
from segops.errors import OneLineError
from tests.data.test_source_conformance import CONTENT, as_folder
from tests.support.factories import zip_folder
from tests.support.remote_servers import Served, answer, folder_files, http_server, put_objects, s3_server, use_aws

PART = 1000


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of its own, small parts and no pauses."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PART_BYTES", PART)
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0)
    (tmp_path / "scratch").mkdir()
    return tmp_path


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    return zip_folder(as_folder(tmp_path / "made"), tmp_path / "made" / "raw.zip").read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read(uri: str, project: Path, expected: str | None = None, connections: int = 3) -> dict[str, bytes]:
    """The members of a source."""
    with open_source(uri, scratch=project / "scratch", sha256=expected, connections=connections) as source:
        return {name: source.read(name) for name in source.names}


def complaint(uri: str, project: Path, expected: str | None = None, connections: int = 3) -> str:
    with pytest.raises(OneLineError) as error:
        read(uri, project, expected, connections)
    assert "\n" not in str(error.value)
    return str(error.value)


def left_over(project: Path) -> list[str]:
    return sorted(path.name for path in (project / DOWNLOADS).rglob("*") if path.is_file() and path.suffix != ".lock")


# ------------------------------------------------------------------------------------------------------------------ S3


def test_a_listing_of_many_pages_is_read_to_its_end(
    endpoint: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_aws(monkeypatch, endpoint)
    monkeypatch.setattr(s3, "_PAGE", 4)
    content = {f"{number}.txt": b"%d" % number for number in range(10, 23)}
    others = {"pq/no.txt": b"no", "p/": b"", "p/.hidden": b"left out"}
    put_objects(endpoint, "many", {f"p/{name}": one for name, one in content.items()} | others)
    assert read("s3://many/p", project) == content


def test_what_was_fetched_is_taken_again_until_the_object_changes(
    endpoint: str, project: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_aws(monkeypatch, endpoint)
    put_objects(endpoint, "again", {"raw.zip": archive})
    read("s3://again/raw.zip", project)
    (first,) = (project / DOWNLOADS).rglob("raw.zip")
    before = first.stat().st_mtime_ns
    read("s3://again/raw.zip", project)
    assert first.stat().st_mtime_ns == before
    put_objects(endpoint, "again", {"raw.zip": archive[:-1]})
    assert "damaged or truncated zip" in complaint("s3://again/raw.zip", project)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://present/none.zip", "s3://present/none.zip: there is no such object"),
        ("s3://absent/raw.zip", "s3://absent/raw.zip: there is no such bucket"),
        ("s3://present/none", "ingest.source: s3://present/none/: nothing stands below it"),
        ("s3://absent/none", "s3://absent/none/: there is no such bucket"),
        ("s3:///raw.zip", "ingest.source: s3:///raw.zip: no bucket"),
        (
            "s4://present/raw.zip",
            "ingest.source: s4://present/raw.zip: unknown kind of source 's4://'; did you mean 's3",
        ),
    ],
)
def test_what_isnt_in_s3_is_named(
    uri: str, expected: str, endpoint: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_aws(monkeypatch, endpoint)
    put_objects(endpoint, "present", {"raw/a.txt": b"a"})
    assert complaint(uri, project).startswith(expected)
    assert left_over(project) == []


def s3_error(status: int, code: str) -> object:
    """S3's own answer of an error."""
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return lambda handler: answer(handler, status, body, {"Content-Type": "application/xml"})


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "SignatureDoesNotMatch", "the secret isn't the access key's; correct AWS_SECRET_ACCESS_KEY or"),
        (403, "InvalidAccessKeyId", "the access key is unknown"),
        (403, "AccessDenied", "access denied"),
        (400, "ExpiredToken", "the session token has expired"),
        (301, "PermanentRedirect", "the bucket is in another region; set AWS_REGION"),
        (412, "PreconditionFailed", "the object changed while it was fetched"),
    ],
)
def test_an_answer_that_wont_change_is_explained_at_once(
    status: int, code: str, expected: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(b"", faults=[s3_error(status, code)] * 9)  # type: ignore[list-item]
    with http_server(served) as url:
        use_aws(monkeypatch, url)
        text = complaint("s3://bucket/raw.zip", project)
    assert text.startswith(f"s3://bucket/raw.zip: {expected}")
    assert "hidden-secret" not in text


def test_a_burst_of_503_and_cut_connections_is_sat_out(
    project: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = [s3_error(503, "SlowDown")] * 3
    served = Served(archive, faults=[*slow, "cut:100", *slow, "cut:300"])  # type: ignore[list-item]
    with http_server(served) as url:
        use_aws(monkeypatch, url)
        assert read("s3://bucket/raw.zip", project, sha256(archive)) == CONTENT


def test_a_server_that_stays_away_is_given_up(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(b"", faults=[s3_error(503, "SlowDown")] * 99)  # type: ignore[list-item]
    with http_server(served) as url:
        use_aws(monkeypatch, url)
        assert "the server answered 503 SlowDown, 5 times in a row" in complaint("s3://bucket/raw.zip", project)


def test_no_credentials_are_said_so(project: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_aws(monkeypatch, endpoint)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials; set AWS_ACCESS_KEY_ID" in complaint("s3://bucket/raw.zip", project)


# ---------------------------------------------------------------------------------------------------------------- HTTP


@pytest.mark.parametrize("ranges", [True, False])
def test_an_archive_behind_a_url_is_read(ranges: bool, project: Path, archive: bytes) -> None:
    served = Served(archive, ranges=ranges)
    with http_server(served) as url:
        secret = url.replace("http://", "http://user:hidden-secret@") + "/sets/raw.zip?token=hidden-secret"
        with open_source(secret, scratch=project / "scratch", sha256=sha256(archive), connections=3) as source:
            assert {name: source.read(name) for name in source.names} == CONTENT
            assert source.uri == f"{url}/sets/raw.zip"
    parts = -(-len(archive) // PART) if ranges else 1
    assert len(served.asked) == 1 + parts


def test_a_url_needs_its_sha256_and_is_told_it(project: Path, archive: bytes) -> None:
    with http_server(Served(archive)) as url:
        text = complaint(f"{url}/raw.zip", project)
    assert text.startswith("ingest.sha256: ")
    assert sha256(archive) in text


def test_a_cut_connection_goes_on_at_the_byte_reached(
    project: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PART_BYTES", 2**20)
    monkeypatch.setattr(http, "_PIECE_BYTES", 100)
    served = Served(archive, faults=["cut:1", "cut:700"])
    with http_server(served) as url:
        assert read(f"{url}/raw.zip", project, sha256(archive)) == CONTENT
    last = len(archive) - 1
    assert served.asked == ["bytes=0-0", f"bytes=0-{last}", f"bytes=700-{last}"]


def test_a_download_that_was_given_up_goes_on_with_the_missing_parts(project: Path, archive: bytes) -> None:
    served = Served(archive)
    with http_server(served) as url:
        served.faults = ["cut:1", "cut:1000", *[500] * 5]  # the first part arrives, the second one never
        text = complaint(f"{url}/raw.zip", project, sha256(archive), connections=1)
        assert "the server answered 500, 5 times in a row" in text
        assert "raw.zip" not in left_over(project)
        served.faults, served.asked = [], []
        assert read(f"{url}/raw.zip", project, sha256(archive)) == CONTENT
    assert "bytes=0-999" not in served.asked
    assert "bytes=1000-1999" in served.asked


def test_a_file_that_changes_meanwhile_is_never_mixed(project: Path, archive: bytes) -> None:
    served = Served(archive)

    def change(handler: BaseHTTPRequestHandler) -> None:
        served.etag = '"two"'
        answer(handler, 500, b"")

    with http_server(served) as url:
        served.faults = ["cut:1", change]
        assert "the file changed while it was fetched" in complaint(f"{url}/raw.zip", project, sha256(archive))
        assert read(f"{url}/raw.zip", project, sha256(archive)) == CONTENT


def test_another_hash_is_refused_and_the_file_fetched_anew(project: Path, archive: bytes) -> None:
    served = Served(archive)
    with http_server(served) as url:
        assert "params expect" in complaint(f"{url}/raw.zip", project, "0" * 64)
        assert left_over(project) == []
        assert read(f"{url}/raw.zip", project, sha256(archive)) == CONTENT


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (404, "the server answered 404: there is no such file"),
        (401, "the server wants a login"),
        (403, "refuses access"),
    ],
)
def test_a_refusal_is_explained(fault: int, expected: str, project: Path) -> None:
    with http_server(Served(b"", faults=[fault])) as url:
        assert expected in complaint(f"{url}/raw.zip", project, "0" * 64)


def test_a_circle_of_redirects_is_explained(project: Path) -> None:
    def again(handler: BaseHTTPRequestHandler) -> None:
        answer(handler, 302, b"", {"Location": handler.path})

    with http_server(Served(b"", faults=[again] * 20)) as url:
        assert "over 5 redirects" in complaint(f"{url}/raw.zip", project, "0" * 64)


def test_a_dead_server_is_given_up(project: Path) -> None:
    text = complaint("http://127.0.0.1:9/raw.zip", project, "0" * 64)
    assert text.startswith("http://127.0.0.1:9/raw.zip: connection refused, 5 times in a row")


def test_of_those_who_want_the_same_file_at_once_one_fetches_it(
    project: Path, archive: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each thread opens the lock file by itself, as each process would."""

    served = Served(archive, spared="bytes=0-0")  # who asks for the size may come at any time

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        deadline = time.monotonic() + 30
        while served.asked.count("bytes=0-0") < 4 and time.monotonic() < deadline:
            time.sleep(0.01)  # until all four have asked for the size
        time.sleep(0.3)
        answer(handler, 500, b"")

    with http_server(served) as url, ThreadPoolExecutor(4) as pool:
        served.faults = [slowly]
        uri, expected = f"{url}/raw.zip", sha256(archive)
        assert list(pool.map(lambda _: read(uri, project, expected), range(4))) == [CONTENT] * 4
    spans = [span for span in served.asked if span != "bytes=0-0"]
    assert len(spans) == 1 + -(-len(archive) // PART)  # the one that failed was asked for again
    assert "another process is fetching it; waiting for it" in capsys.readouterr().err


def test_files_of_a_folder_become_objects(tmp_path: Path) -> None:
    assert folder_files(as_folder(tmp_path / "made")) == CONTENT
