"""Fetching from S3 with 1, 4 and 16 connections: throughput, ratios, peak memory.

    python -m benchmarks.s3_ingest [--archive-mib 128] [--files 400] [--file-kib 256] [--rounds 3]

The server is moto's in a process of its own, which answers each request after 30 ms and sends 10 MB/s a connection, so
that it behaves like a bucket far away and not like a disk. `of line` is the share of what the connections could carry:
what is missing goes to waiting for answers, and to the two processes where they share few cores. Each measurement is a
process of its own. Memory is read from Linux's /proc.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.ratios import Ratio, quotients, table

COMMAND = [sys.executable, "-m", "benchmarks.s3_ingest"]
CONNECTIONS = (1, 4, 16)
LATENCY_S = 0.03
BYTES_PER_S = 10e6
PIECE_BYTES = 2**18
BUCKET = "bench"
AWS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


class Fetched(NamedTuple):
    """What a fetch took: seconds, bytes, and peak memory in MiB above what was held before."""

    seconds: float
    size_bytes: float
    peak_mib: float

    @property
    def rate(self) -> float:
        """Return MB a second."""
        return self.size_bytes / self.seconds / 1e6


def serve() -> None:
    """Print the port and serve until standard input ends."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: Any) -> None:
            """Nothing."""

    keep_contents()
    application = DomainDispatcherApplication(create_backend_app)

    def far_away(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body: Iterable[bytes] = application(environ, start_response)
        if environ["REQUEST_METHOD"] != "GET":
            return body
        time.sleep(LATENCY_S)
        return slowly(body)

    server = make_server("127.0.0.1", 0, far_away, threaded=True, request_handler=Quiet)
    print(server.port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


def slowly(body: Iterable[bytes]) -> Iterator[bytes]:
    """The body at BYTES_PER_S."""
    for part in body:
        for at in range(0, len(part), PIECE_BYTES):
            piece = part[at : at + PIECE_BYTES]
            time.sleep(len(piece) / BYTES_PER_S)
            yield piece


def keep_contents() -> None:
    """Keep each object's bytes at hand: moto reads the whole object for each part of it, one reader at a time."""
    from moto.s3.models import FakeKey

    read, write = FakeKey.value.fget, FakeKey.value.fset

    def value(key: Any) -> bytes:
        if "kept" not in vars(key):
            key.kept = read(key)
        kept: bytes = key.kept
        return kept

    FakeKey.value = property(value, write)


def memory_kib(name: str) -> int:
    """VmRSS, what this process holds in memory, or VmHWM, the most since the mark was reset."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def measure(uri: str, connections: int) -> None:
    """Fetch once; print seconds, bytes and peak memory in MiB above what was held before."""
    from segops.data.sources.source import DOWNLOADS, fetch

    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder
        fetch(f"s3://{BUCKET}/small/", connections=1)  # loads what it needs
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM; getrusage would name the parent's peak
        before = memory_kib("VmRSS")
        began = time.perf_counter()
        path = fetch(uri, connections=connections).path
        seconds = time.perf_counter() - began
        peak = memory_kib("VmHWM")
        assert (Path(folder) / DOWNLOADS) in path.parents
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        print(seconds, sum(each.stat().st_size for each in files), (peak - before) / 1024)


def fill(endpoint: str, archive_mib: int, files: int, file_kib: int) -> None:
    """Put the archive, the folder and a small file for warming up into the bucket."""
    import io
    import zipfile

    import boto3

    random = np.random.default_rng(0)
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=BUCKET)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for number in range(archive_mib):
            archive.writestr(f"{number}.bin", random.bytes(2**20))
    client.put_object(Bucket=BUCKET, Key="raw.zip", Body=packed.getvalue())
    client.put_object(Bucket=BUCKET, Key="small/a.bin", Body=b"a")
    for number in range(files):
        client.put_object(Bucket=BUCKET, Key=f"folder/{number:05d}.bin", Body=random.bytes(file_kib * 2**10))


def ratios(rounds: int) -> list[Ratio]:
    """Return the rows of an archive and of a folder."""
    return compare(parse(["--rounds", str(rounds)]))


def compare(arguments: argparse.Namespace) -> list[Ratio]:
    """Fetch each kind of source with each number of connections, round by round."""
    with subprocess.Popen([*COMMAND, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        os.environ.update(AWS, AWS_ENDPOINT_URL=endpoint, NO_PROXY="127.0.0.1")
        fill(endpoint, arguments.archive_mib, arguments.files, arguments.file_kib)
        sources = {
            f"an archive of {arguments.archive_mib} MiB": f"s3://{BUCKET}/raw.zip",
            f"{arguments.files} files of {arguments.file_kib} KiB": f"s3://{BUCKET}/folder/",
        }
        rows = [row for what, uri in sources.items() for row in beside(f"fetch {what}", uri, arguments.rounds)]
        server.terminate()
    return rows


def beside(what: str, uri: str, rounds: int) -> list[Ratio]:
    """Set the rates of several connections beside that of a single connection."""
    fetched: dict[int, list[Fetched]] = {connections: [] for connections in CONNECTIONS}
    for _ in range(rounds):
        for connections, made in fetched.items():
            command = [*COMMAND, "--fetch", uri, str(connections)]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            made.append(Fetched(*map(float, printed.split())))
    rates = {connections: [each.rate for each in made] for connections, made in fetched.items()}
    rows, base = [], f"{CONNECTIONS[0]} connection, {median(rates[CONNECTIONS[0]]):.1f} MB/s"
    for connections in CONNECTIONS[1:]:
        peak_mib, rate = median(each.peak_mib for each in fetched[connections]), median(rates[connections])
        share = rate * 1e6 / (connections * BYTES_PER_S)
        measured = f"{rate:.1f} MB/s, {share:.0%} of the line; {peak_mib:.1f} MiB above imports"
        values = quotients(rates[connections], rates[CONNECTIONS[0]])
        rows.append(Ratio(what, f"{connections} connections", measured, base, values))
    return rows


def main() -> None:
    """The command line."""
    arguments = parse()
    if arguments.serve:
        serve()
    elif arguments.fetch:
        measure(arguments.fetch[0], int(arguments.fetch[1]))
    else:
        print(f"S3 at {LATENCY_S * 1000:.0f} ms a request and {BYTES_PER_S / 1e6:.0f} MB/s a connection\n")
        print(table(compare(arguments)))


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, or what is given instead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("archive-mib", 128), ("files", 400), ("file-kib", 256), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fetch", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(given)


if __name__ == "__main__":
    main()
