"""Which MLflow store is ours, and does it answer. Everything else in `tracking/` gets its client here."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from segops.errors import UserError
from segops.files import project_root
from segops.progress import say

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PROBE_S = 3
# Read by mlflow at each call: its own defaults make a dead server block for minutes.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_AWAY = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_REASONS = {
    r"refused": "connection refused",
    r"timed? ?out": "timed out",
    r"Name or service|NameResolution|getaddrinfo|nodename": "unknown host",
    r"certificate|SSL": "TLS certificate not accepted",
    r"reset by peer|RemoteDisconnected|Connection aborted": "connection lost",
    r"database is locked": "the database is locked",
    r"disk is full|No space": "the disk is full",
    r"readonly|read-only|unable to open": "the database file can't be written",
    r"not a database|malformed": "the file is not a database; move it away",
}


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the sqlite file `mlflow.db` of the project."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or f"sqlite:///{project_root() / 'mlflow.db'}"


def is_remote(uri: str) -> bool:
    """Whether a server stands between us and the store."""
    return urlsplit(uri).scheme in ("http", "https")


def shown(uri: str) -> str:
    """The URI without user name and password."""
    return _without_secret(uri, uri)


def client() -> MlflowClient:
    """A client of the store, after it answered.

    Raises:
        UserError: one line within about five seconds, when the server is away or the store can't be opened.
    """
    uri = tracking_uri()
    mlflow = import_mlflow()
    with answering():
        if is_remote(uri):
            _probe(uri)
        _refuse_read_only(uri)
        try:
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
            made = mlflow.MlflowClient(uri, registry_uri=uri)
            made.search_experiments(max_results=1)
        except (mlflow.exceptions.MlflowException, ValueError, ImportError) as error:
            if _is_away(error):
                raise
            raise UserError(f"MLFLOW_TRACKING_URI {shown(uri)} can't be used: {_first_line(error, uri)}") from None
    return made


@contextmanager
def answering() -> Iterator[None]:
    """Turn a store that stops answering inside the block into one line. Other MLflow errors pass: they are bugs."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not _is_away(error):
            raise
        uri = tracking_uri()
        if getattr(error, "error_code", None) == "PERMISSION_DENIED":
            account = os.environ.get("MLFLOW_TRACKING_USERNAME") or urlsplit(uri).username or "nobody"
            raise UserError(
                f"MLflow at {shown(uri)} refuses this to the account '{account}' ({_first_line(error, uri)}); use one "
                "that may: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            ) from None
        fix = (
            "start it with `make ui` or unset MLFLOW_TRACKING_URI"
            if is_remote(uri)
            else "put that right and run the same command again"
        )
        raise UserError(f"MLflow at {shown(uri)} does not answer ({_reason(error, uri)}); {fix}") from None


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment called `name`, made where there is none. Raises UserError when it was deleted."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # A store without a server would otherwise put artifacts into ./mlruns of whoever comes first.
        location = None if is_remote(tracking_uri()) else (project_root() / "mlartifacts").as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    assert found is not None
    if found.lifecycle_stage == "deleted":
        raise UserError(
            f"MLflow's experiment '{name}' is deleted; restore it with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}` or change tracking.experiment"
        )
    return str(found.experiment_id)


def serve(port: int) -> None:
    """Serve the MLflow UI on the project's own store, on this machine alone, until interrupted."""
    uri = tracking_uri()
    if is_remote(uri):
        say(f"MLFLOW_TRACKING_URI is set: the UI is at {shown(uri)}/#/experiments?workflowType=machine_learning")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(
                f"port {port} can't be used ({error.strerror}); choose another: `make ui PORT={port + 1}`"
            ) from None
    artifacts = (project_root() / "mlartifacts").as_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri, "--no-serve-artifacts", "--default-artifact-root", artifacts]
    command += ["--uvicorn-opts", "--log-level warning"]
    say(f"MLflow UI: http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning  (Ctrl-C ends it)")
    quiet = {**_ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
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


def import_mlflow() -> ModuleType:
    """mlflow, silent and with short patience."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    return cast("ModuleType", mlflow)


def _probe(uri: str) -> None:
    """One short request with mlflow's own credentials, TLS settings and proxies. Raises when nobody answers it."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking._tracking_service.utils import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    answer = http_request(
        get_default_host_creds(uri), "/health", "GET", max_retries=0, timeout=_PROBE_S, raise_on_status=False
    )
    if answer.status_code >= 500:
        raise MlflowException(f"status {answer.status_code}")


def _refuse_read_only(uri: str) -> None:
    """mlflow tries a file that can't be written for two minutes."""
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        there = path if path.exists() else path.parent
        if there.exists() and not os.access(there, os.W_OK):
            raise UserError(f"{there} can't be written, so MLflow can't keep its store there; change its permissions")


def _is_away(error: BaseException) -> bool:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DatabaseError

    return isinstance(error, DatabaseError) or (isinstance(error, MlflowException) and error.error_code in _AWAY)


def _reason(error: BaseException, uri: str) -> str:
    text = str(error)
    for pattern, reason in _REASONS.items():
        if re.search(pattern, text, re.IGNORECASE):
            return reason
    return _first_line(error, uri)


def _first_line(error: BaseException, uri: str) -> str:
    """The first line of an error, without the credentials that the URI may carry."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return _without_secret(line, uri)[:300]


def _without_secret(text: str, uri: str) -> str:
    secret = urlsplit(uri).netloc.rpartition("@")[0]
    return text.replace(f"{secret}@", "") if secret else text
