"""Files from MLflow's artifact store: what a user reads for each way in which a download can fail."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from segops.errors import OneLineError, TryAgainError, UserError
from segops.tracking import artifacts, store
from tests.support.remote_servers import QuietHandler, answer, serve

LOCATION, NAME = "mlflow-artifacts:/1/models/m-1/artifacts", "candidate/per_image.csv"


@contextmanager
def mlflow_that_says(
    monkeypatch: pytest.MonkeyPatch, says: Callable[[QuietHandler], tuple[int, bytes]]
) -> Iterator[str]:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            status, body = says(self)
            answer(self, status, body)

    store.import_mlflow()
    with serve(Handler) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        yield url


def fetch(folder: Path) -> Path:
    with store.answering():
        return artifacts.fetch(LOCATION, NAME, folder)


def said(message: str) -> bytes:
    return json.dumps({"error_code": "INTERNAL_ERROR", "message": message}).encode()


def test_a_file_comes_through_the_server_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def says(handler: QuietHandler) -> tuple[int, bytes]:
        asked.append(handler.path)
        return 200, b"a,b\n"

    with mlflow_that_says(monkeypatch, says):
        assert fetch(tmp_path).read_bytes() == b"a,b\n"
    assert asked == [f"/api/2.0/mlflow-artifacts/artifacts/1/models/m-1/artifacts/{NAME}"]
    assert [path.name for path in tmp_path.iterdir()] == ["per_image.csv"]


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "no such artifact"), (500, "An error occurred (404) when calling the HeadObject operation: Not Found")],
)
def test_what_the_server_or_its_s3_does_not_have_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, message: str
) -> None:
    with mlflow_that_says(monkeypatch, lambda _: (status, said(message))), pytest.raises(FileNotFoundError):
        fetch(tmp_path)


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (401, "", "answers 401 Unauthorized; set MLFLOW_TRACKING_USERNAME and"),
        (403, "Permission denied", "answers 403 Forbidden (Permission denied); this account lacks the right"),
        (
            500,
            "The following failures occurred:\n##### File a #####\nCould not connect to http://s3:8333",
            "answers 500 Internal Server Error (Could not connect to http://s3:8333); see the server's log",
        ),
        (503, "", "answers 503 Service Unavailable; it is overloaded or starts just now: wait"),
    ],
)
def test_another_status_is_told_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, message: str, expected: str
) -> None:
    body = said(message) if message else b"<html>of a proxy</html>"
    with mlflow_that_says(monkeypatch, lambda _: (status, body)) as url, pytest.raises(OneLineError) as caught:
        fetch(tmp_path)
    assert str(caught.value).startswith(f"MLflow at {url} {expected}")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_breaks_off_leaves_no_half_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def says(handler: QuietHandler) -> tuple[int, bytes]:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError

    with mlflow_that_says(monkeypatch, says), pytest.raises(TryAgainError, match=r"does not answer \("):
        fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "expected"), [("http://127.0.0.1:9", "connection refused"), ("http://nobody.invalid:5000", "unknown host")]
)
def test_a_server_that_is_away_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str, expected: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    store.import_mlflow()
    with pytest.raises(TryAgainError, match=rf"^MLflow at {uri} does not answer \({expected}\)"):
        fetch(tmp_path)


def test_a_silent_server_is_asked_once_as_long_as_the_user_allows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.import_mlflow()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(TryAgainError, match=r"does not answer \(timed out\)"):
            fetch(tmp_path)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("endpoint", "expected"), [("http://s3.invalid:8333", "unknown host"), ("http://127.0.0.1:9", "connection refused")]
)
def test_who_wants_direct_downloads_reads_which_name_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endpoint: str, expected: str
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    signed = json.dumps({"url": f"{endpoint}/mlflow/a?X-Amz-Signature=hidden", "headers": {}, "file_size": 4}).encode()
    with mlflow_that_says(monkeypatch, lambda _: (200, signed)), pytest.raises(TryAgainError) as caught:
        fetch(tmp_path)
    assert str(caught.value) == (
        f"MLflow sends us to {endpoint} for artifacts, which fails from here ({expected}); "
        "unset MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD to fetch them through MLflow"
    )


def test_a_direct_download_of_a_server_that_signs_nothing_goes_through_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")

    def says(handler: QuietHandler) -> tuple[int, bytes]:
        return (501, said("not supported")) if "/presigned/" in handler.path else (200, b"a,b\n")

    with mlflow_that_says(monkeypatch, says):
        assert fetch(tmp_path).read_bytes() == b"a,b\n"


def test_a_store_of_files_tells_what_is_missing(tmp_path: Path) -> None:
    held = tmp_path / "held" / NAME
    held.parent.mkdir(parents=True)
    held.write_text("a,b\n")
    into = tmp_path / "into"
    into.mkdir()
    location = (tmp_path / "held").as_uri()
    assert artifacts.fetch(location, NAME, into) == into / "per_image.csv"
    assert (into / "per_image.csv").read_text() == "a,b\n"
    with pytest.raises(FileNotFoundError):
        artifacts.fetch(location, "candidate/other.csv", into)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", TryAgainError),
        (500, "InternalError", TryAgainError),
        (403, "AccessDenied", UserError),
        (429, "TooManyRequests", TryAgainError),
        (None, "", TryAgainError),  # nobody answers
    ],
)
def test_of_a_bucket_only_what_may_pass_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int | None, code: str, kind: type[Exception]
) -> None:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            answer(self, status or 200, f"<Error><Code>{code}</Code><Message>so</Message></Error>".encode())

        do_HEAD = do_GET

    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    store.import_mlflow()
    with serve(Handler) as url:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", url if status else "http://127.0.0.1:9")
        with pytest.raises(OneLineError, match=r"^s3://models/500/per_image.csv can't be read: ") as caught:
            artifacts.fetch("s3://models/500", "per_image.csv", tmp_path)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
