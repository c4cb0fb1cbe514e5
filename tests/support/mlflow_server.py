"""A real `mlflow server` on a free port, and names that no other test uses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

from segops.params.tracking import TrackingParams
from tests.support import server_processes

AWAY = "http://127.0.0.1:9"  # no server there
_START_S = 240.0


class MlflowServer:
    """Started, stopped and started again on the same port and the same files."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.folder = folder
        self._options, self._environment = options, environment
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it answers; nothing where it runs already."""
        if self._process is not None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), *self._options]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        environment |= quiet | self._environment
        log = self.folder / "server.log"
        self._process = server_processes.start(command, environment, log)
        server_processes.wait_for(self._process, log, f"{self.uri}/health", _START_S)

    def stop(self) -> None:
        """Kill the server and its worker, as a crash does."""
        if self._process is not None:
            server_processes.kill(self._process)
            self._process = None


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def own_names() -> TrackingParams:
    """An experiment and a registered model that no other test has."""
    name = uuid.uuid4().hex[:8]
    return TrackingParams(experiment=f"experiment-{name}", model_name=f"model-{name}", patience_s=0)
