"""Fetching from S3 with 1, 4 and 16 connections: throughput, ratios, peak memory.

    python -m benchmarks.s3_ingest [--archive-mib 128] [--files 400] [--file-kib 256]

The server is moto's in a process of its own, which answers each request after 30 ms and sends 25 MB/s a connection, so
that it behaves like a bucket far away and not like a disk. Each measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

CONNECTIONS = (1, 4, 16)
LATENCY_S = 0.03
BYTES_PER_S = 25e6
PIECE_BYTES = 2**18
BUCKET = "bench"
AWS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


def serve() -> None:
    """Print the port and serve until standard input ends."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: Any) -> None:
            """Nothing."""

    application = DomainDispatcherApplication(create_backend_app)

    def far_away(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        time.sleep(LATENCY_S)
        return (
            slowly(application(environ, start_response))
            if environ["REQUEST_METHOD"] == "GET"
            else (application(environ, start_response))
        )

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


def fetch(uri: str, connections: int) -> None:
    """Open the source once; print seconds, bytes and peak memory in MiB above what the imports take."""
    from segops.data.sources import open_source

    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder
        with open_source(f"s3://{BUCKET}/small/", scratch=Path(folder), connections=1):
            base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        with open_source(uri, scratch=Path(folder), connections=connections) as source:
            seconds = time.perf_counter() - began
            assert source.names
        size_bytes = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(seconds, size_bytes, (peak - base) / 1024)


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


def compare(arguments: argparse.Namespace) -> None:
    """Print a line for each kind of source and number of connections."""
    command = [sys.executable, "-m", "benchmarks.s3_ingest"]
    with subprocess.Popen([*command, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        os.environ.update(AWS, AWS_ENDPOINT_URL=endpoint, NO_PROXY="127.0.0.1")
        fill(endpoint, arguments.archive_mib, arguments.files, arguments.file_kib)
        print(f"S3 at {LATENCY_S * 1000:.0f} ms a request and {BYTES_PER_S / 1e6:.0f} MB/s a connection")
        print("source                      connections   MB/s  speed  peak MiB above imports")
        for uri, what in (
            (f"s3://{BUCKET}/raw.zip", f"archive of {arguments.archive_mib} MiB"),
            (f"s3://{BUCKET}/folder/", f"{arguments.files} files of {arguments.file_kib} KiB"),
        ):
            first = None
            for connections in CONNECTIONS:
                made = subprocess.run(
                    [*command, "--fetch", uri, str(connections)], check=True, stdout=subprocess.PIPE, text=True
                )
                seconds, size_bytes, peak_mib = (float(one) for one in made.stdout.split())
                rate = size_bytes / seconds / 1e6
                first = first or rate
                print(f"{what:<28}{connections:>10}{rate:>8.1f}{rate / first:>6.1f}x{peak_mib:>8.1f}")
        server.terminate()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("archive-mib", 128), ("files", 400), ("file-kib", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fetch", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
    elif arguments.fetch:
        fetch(arguments.fetch[0], int(arguments.fetch[1]))
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
