"""Real servers on this machine: S3 (moto's and OpenStack Swift's), and an HTTP server that misbehaves on demand."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "hidden-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
}


def use_aws(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Point boto3 at a server of the tests."""
    for name, value in {**AWS, "AWS_ENDPOINT_URL": endpoint, "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)


@contextmanager
def s3_server() -> Iterator[str]:
    """moto's S3 server; yields its endpoint."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def swift_server(folder: Path) -> Iterator[str]:
    """OpenStack Swift's S3 in an empty folder, see `swift_server.py`; yields its endpoint. Skips where it isn't."""
    program = shutil.which("swift-proxy-server")
    if program is None:
        packages = "swift-proxy swift-account swift-container swift-object"
        pytest.skip(f"needs OpenStack Swift: apt-get install --no-install-recommends {packages}")
    python = Path(program).read_text(encoding="utf-8").splitlines()[0].removeprefix("#!").split()
    command = [*python, "-I", str(Path(__file__).with_name("swift_server.py")), str(folder)]
    with (
        (folder / "log").open("w", encoding="utf-8") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        assert port, (folder / "log").read_text(encoding="utf-8")
        yield f"http://127.0.0.1:{port}"


def put_objects(endpoint: str, bucket: str, files: dict[str, bytes], *, key: str = "a", secret: str = "b") -> None:
    """Make the bucket, and the objects in it."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret
    )
    client.create_bucket(Bucket=bucket)
    for name, content in files.items():
        client.put_object(Bucket=bucket, Key=name, Body=content)


@dataclass
class Served:
    """What a server of the tests does, and what it was asked.

    Attributes:
        content: of every path.
        faults: taken one by one, before an ordinary answer: a status, `cut:N` (the body ends after N bytes), or a
            function of the handler that answers by itself.
        spared: the Range header of requests that take no fault.
        ranges: whether parts are served.
        etag: of the content.
        asked: the Range header of every request, or "".
    """

    content: bytes
    faults: list[int | str | Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    spared: str | None = None
    ranges: bool = True
    etag: str = '"one"'
    asked: list[str] = field(default_factory=list)
    url: str = ""


class QuietHandler(BaseHTTPRequestHandler):
    """Keeps connections open and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port; yields the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def http_server(served: Served) -> Iterator[str]:
    """Serve it on a free port; yields the base URL."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            span = self.headers.get("Range", "")
            served.asked.append(span)
            fault = served.faults.pop(0) if served.faults and span != served.spared else None
            if callable(fault):
                fault(self)
            elif isinstance(fault, int):
                answer(self, fault, b"")
            else:
                _send(self, served, int(fault.partition(":")[2]) if fault else None)

    with serve(Handler) as url:
        yield url


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    """A whole answer."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def _send(handler: BaseHTTPRequestHandler, served: Served, cut_after: int | None) -> None:
    span = handler.headers.get("Range")
    same = handler.headers.get("If-Range", served.etag) == served.etag
    body, status, headers = served.content, 200, {"ETag": served.etag}
    if span and served.ranges and same:
        begin, _, end = span.removeprefix("bytes=").partition("-")
        body, status = served.content[int(begin) : int(end) + 1], 206
        headers["Content-Range"] = f"bytes {begin}-{end}/{len(served.content)}"
    if cut_after is None:
        answer(handler, status, body, headers)
        return
    headers["Content-Length"] = str(len(body))
    handler.close_connection = True
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body[:cut_after])


def folder_files(folder: Path, prefix: str = "") -> dict[str, bytes]:
    """The files of a folder as objects below a prefix."""
    return {
        f"{prefix}{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
