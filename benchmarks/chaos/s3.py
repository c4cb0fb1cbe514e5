"""S3 behind a proxy that loses, cuts, changes and invents answers, from which archives and a folder are fetched.

`right`: what arrived has the bytes that were put there; `doubled`: more files than objects. Each case is fetched a
second time without a fault, which must give the right bytes whatever the first left behind.
"""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from benchmarks.chaos.outcome import Outcome
from segops.data.sources import download, s3
from segops.data.sources.source import fetch
from segops.errors import OneLineError
from segops.files import MIB
from tests.support.fault_proxy import Answer, Fault, Rule, fault_proxy
from tests.support.remote_servers import AWS, s3_server

NAME = "S3"
_TRIES = 72
_ALWAYS = 99
_BUCKET = "chaos"
Content = dict[str, bytes]


def run(folder: Path, share: float, seed: int) -> Iterator[Outcome]:
    """Yield what became of each fault."""
    draw = random.Random(seed)
    contents = _contents(draw)
    with s3_server() as endpoint, _settings(endpoint):
        _put(endpoint, contents)
        faults = [*get_args(Fault), *CHANGES]
        for number in range(max(1, round(_TRIES * share))):
            fault, target = faults[number % len(faults)], draw.choice(sorted(contents))
            times, which = draw.choice((1, 2, _ALWAYS)), draw.choice(("first", "later"))
            yield _case(folder / str(number), endpoint, fault, target, times, which, contents[target])


def _case(folder: Path, endpoint: str, fault: str, target: str, times: int, which: str, content: Content) -> Outcome:
    """Fetch with the fault, then without."""
    often = "always" if times == _ALWAYS else f"{times} times"
    name = f"{target}: {fault} {often}, from the {which} request on"
    path = "" if target.endswith("/") and which == "first" else target.rstrip("/").rpartition("/")[2]
    path = next(iter(content)) if target.endswith("/") and which == "later" else path
    rule = _rule(fault, path, times)
    early = [Rule("GET", path, times=1)] if which == "later" and not target.endswith("/") else []
    folder.mkdir(parents=True)
    os.environ["DVC_ROOT"] = str(folder)
    with fault_proxy(int(endpoint.rpartition(":")[2]), *early, rule) as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.uri
        first, said = _fetched(target)
        proxy.rules.clear()
        again, refused = _fetched(target)
    if said is not None and not isinstance(said, OneLineError):
        return Outcome(NAME, name, "traceback", f"{type(said).__name__}: {said}"[:300])
    if again is None:
        return Outcome(NAME, name, "wrong", f"the next try: {refused}"[:300])
    for found in (first, again):
        if found is not None and found != content:
            more = set(found) - set(content)
            return Outcome(NAME, name, "doubled" if more else "wrong", f"{len(found)} files, {sorted(more)[:3]}")
    if said is not None:
        fine = "\n" not in str(said) and f"s3://{_BUCKET}/" in str(said)
        return Outcome(NAME, name, "one line" if fine else "wrong", str(said)[:300])
    return Outcome(NAME, name, "right", "")


def _fetched(target: str) -> tuple[Content | None, Exception | None]:
    """Fetch; return the content by name, or the error."""
    try:
        path = fetch(f"s3://{_BUCKET}/{target}", connections=2).path
    except Exception as error:
        return None, error
    if path.is_file():
        return {path.name: path.read_bytes()}, None
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}, None


def _rule(fault: str, path: str, times: int) -> Rule:
    """Make the rule of a fault."""
    if fault in CHANGES:
        return Rule("GET", path, times=times, change=CHANGES[fault])
    return Rule("GET", path, fault, times)  # type: ignore[arg-type]


def _body(change: Callable[[bytes], bytes]) -> Callable[[Answer], Answer]:
    return lambda reply: (reply[0], reply[1], change(reply[2]))


def _headers(name: str, value: str | None) -> Callable[[Answer], Answer]:
    def changed(reply: Answer) -> Answer:
        kept = [header for header in reply[1] if header[0].lower() != name.lower()]
        return reply[0], [*kept, *([(name, value)] if value is not None else [])], reply[2]

    return changed


def _flip(body: bytes) -> bytes:
    place = len(body) // 2
    return body[:place] + bytes([body[place] ^ 4]) + body[place + 1 :] if body else body


_PAGE = b"<html><body>Please sign in</body></html>"
CHANGES: dict[str, Callable[[Answer], Answer]] = {
    "a bit flipped": _body(_flip),
    "the body cut in half": _body(lambda body: body[: len(body) // 2]),
    "a byte too many": _body(lambda body: body + b"x"),
    "an empty body": _body(lambda _: b""),
    "the body twice": _body(lambda body: body + body),
    "another content of this length": _body(lambda body: bytes(len(body))),
    "a web page": lambda _: (200, [("Content-Type", "text/html")], _PAGE),
    "a web page that says 404": lambda _: (404, [("Content-Type", "text/html")], _PAGE),
    "301 without a region": lambda _: (301, [], b""),
    "307 elsewhere": lambda _: (307, [("Location", "http://127.0.0.1:9/")], b""),
    "200 in place of a part": lambda reply: (200, reply[1], reply[2]),
    "no ETag": _headers("ETag", None),
    "another ETag": _headers("ETag", '"0123456789abcdef0123456789abcdef"'),
    "a key outside the folder": _body(lambda body: body.replace(b"<Key>folder/", b"<Key>folder/../")),
    "keys listed twice": _body(lambda body: body.replace(b"</Contents>", b"</Contents>" + _first_entry(body), 1)),
    "a listing that claims to go on": _body(lambda body: body.replace(b"<IsTruncated>false", b"<IsTruncated>true")),
    "sizes of one byte": _body(lambda body: body.replace(b"<Size>4", b"<Size>1")),
}


def _first_entry(body: bytes) -> bytes:
    begin, end = body.find(b"<Contents>"), body.find(b"</Contents>")
    return body[begin:end] + b"</Contents>" if 0 <= begin < end else b""


def _contents(draw: random.Random) -> dict[str, Content]:
    """Return what is put: an archive, an archive in parts, and a folder, by what is asked for."""
    archives = {}
    for name, size_bytes in (("whole.zip", 3 * MIB), ("parts.zip", 11 * MIB)):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("a.bin", draw.randbytes(size_bytes))
        archives[name] = {name: packed.getvalue()}
    return archives | {"folder/": {f"{number}.txt": draw.randbytes(40 + number) for number in range(9)}}


def _put(endpoint: str, contents: dict[str, Content]) -> None:
    """Make the bucket and its objects; one of them is uploaded in parts of different sizes."""
    import boto3

    client: Any = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=_BUCKET)
    for name, content in contents["folder/"].items():
        client.put_object(Bucket=_BUCKET, Key=f"folder/{name}", Body=content)
    client.put_object(Bucket=_BUCKET, Key="whole.zip", Body=contents["whole.zip"]["whole.zip"])
    where, body = {"Bucket": _BUCKET, "Key": "parts.zip"}, contents["parts.zip"]["parts.zip"]
    upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
    parts = []
    for number, piece in enumerate((body[: 5 * MIB], body[5 * MIB :]), start=1):
        etag = client.upload_part(**upload, PartNumber=number, Body=piece)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


@contextmanager
def _settings(endpoint: str) -> Iterator[None]:
    """Point boto3 at the server, with short waits and small parts; put all back afterwards."""
    before = dict(os.environ), s3._READ_S, download._FIRST_PAUSE_S, download.PART_BYTES
    os.environ.update(AWS, AWS_ENDPOINT_URL=endpoint, NO_PROXY="127.0.0.1")
    s3._READ_S, download._FIRST_PAUSE_S, download.PART_BYTES = 3, 0.01, MIB
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before[0])
        s3._READ_S, download._FIRST_PAUSE_S, download.PART_BYTES = before[1:]
