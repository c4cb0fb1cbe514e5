"""Serves MLflow's UI on the project's own store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

from segops.errors import UserError
from segops.files import project_root
from segops.progress import say
from segops.tracking import own_store, store


def serve(port: int) -> None:
    """Serve the MLflow UI on the project's own store, on this machine alone, until interrupted."""
    uri = store.tracking_uri()
    if store.is_remote(uri):
        say(f"MLFLOW_TRACKING_URI is set: the UI is at {store.shown(uri)}/#/experiments?workflowType=machine_learning")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(
                f"port {port} can't be used ({error.strerror}); choose another: `make ui PORT={port + 1}`"
            ) from None
    store.client()  # makes the store, or says why it can't be used
    artifacts = (project_root() / own_store.ARTIFACTS).as_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri, "--no-serve-artifacts", "--default-artifact-root", artifacts]
    command += ["--uvicorn-opts", "--log-level warning"]
    say(f"MLflow UI: http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning  (Ctrl-C ends it)")
    quiet = {**store.ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    # In a group of its own: Ctrl-C reaches us alone, and the server ends without its tracebacks.
    server = subprocess.Popen(command, env={**quiet, **os.environ}, process_group=0)  # noqa: S603 - our own words
    try:
        server.wait()
    except KeyboardInterrupt:
        say("MLflow UI ended")
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
