"""A real `mlflow models serve`, as a test starts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.mlflow_server import free_port
from tests.support.server_processes import serving


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
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    surroundings = {**os.environ, "PATH": path, **environment}
    url = f"http://127.0.0.1:{port}"
    with serving([sys.executable, "-m", *given], surroundings, folder / "serve.log", f"{url}/ping"):
        yield url


def ask(url: str, inputs: Any) -> tuple[int, Any]:
    """Status and JSON of an answer to `inputs`."""
    import requests

    answer = requests.post(f"{url}/invocations", json={"inputs": inputs}, timeout=60)
    return answer.status_code, answer.json()
