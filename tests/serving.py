"""A real `mlflow models serve`, as a test starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.mlflow_server import free_port

_START_S = 180.0


@contextmanager
def served(command: list[str], folder: Path, **environment: str) -> Iterator[str]:
    """Run a command that begins with `mlflow models serve` on a free port of this machine; yields its URL.

    Args:
        command: with --port and --host, whose values are replaced.
        folder: its working directory; its log stands there.
        environment: besides this process's own.
    """
    port = free_port()
    given = [*command]
    for option, value in (("--port", str(port)), ("--host", "127.0.0.1")):
        given[given.index(option) + 1] = value
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *given],
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **environment},
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(f"http://127.0.0.1:{port}/ping"):
            assert process.poll() is None, (folder / "serve.log").read_text()
            assert time.monotonic() < deadline, (folder / "serve.log").read_text()
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(url: str, inputs: Any) -> tuple[int, Any]:
    """Status and JSON of an answer to `inputs`."""
    import requests

    answer = requests.post(f"{url}/invocations", json={"inputs": inputs}, timeout=60)
    return answer.status_code, answer.json()
