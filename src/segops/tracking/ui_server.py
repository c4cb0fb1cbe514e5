"""Serves MLflow's UI on the project's own store, on this machine alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from segops.errors import UserError
from segops.files import project_root
from segops.tracking.own_store import ARTIFACTS
from segops.tracking.store import ENVIRONMENT, tracking_uri

_START_S = 240.0
_LOOK_EVERY_S = 0.2


@contextmanager
def serving(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start MLflow's server on a port of this machine, wait until it answers, and end it with the block.

    Raises:
        UserError: the port is taken, or the server doesn't start.
    """
    _refuse_taken(port)
    artifacts = (project_root() / ARTIFACTS).as_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", tracking_uri(), "--no-serve-artifacts", "--default-artifact-root", artifacts]
    command += ["--uvicorn-opts", "--log-level warning"]
    quiet = {**ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    # In a group of its own: Ctrl-C reaches us alone, and the server ends without its tracebacks.
    server = subprocess.Popen(command, env={**quiet, **os.environ}, process_group=0)  # noqa: S603 - our own words
    try:
        _wait_for(server, port)
        yield server
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()


def _refuse_taken(port: int) -> None:
    """Raise UserError if something listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(
                f"port {port} can't be used ({error.strerror}); choose another: `make ui PORT={port + 1}`"
            ) from None


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    """Return when the server answers. Raises UserError if it ends or takes too long."""
    deadline = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(_LOOK_EVERY_S)
    raise UserError("MLflow's server does not start; what it says is above")
