"""Finds the MLflow store and checks that it answers. Everything else in `tracking/` gets its client here."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from types import ModuleType
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from segops.errors import OneLineError, TryAgainError, UserError
from segops.files import engine, project_root, sha256_lines
from segops.locks import hold
from segops.params.tracking import TrackingParams
from segops.progress import say
from segops.tracking import channel, faults
from segops.tracking.own_store import ARTIFACTS, ready, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient as MlflowClient  # here for all who name these types
    from mlflow.entities import Run as Run

_PROBE_S = 3
# Read by mlflow at each call: its own defaults make a dead server block for minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Artifacts go through the server: the S3 server's name in a presigned URL is the one that MLflow's server uses, and
    # often means nothing (or another server) where we run.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "PGCONNECT_TIMEOUT": "10",  # seconds, of a PostgreSQL that says nothing
}
_PATIENCE_S = {"kfp": 900.0}  # by engine; a person at a terminal waits less
_SHORT_PATIENCE_S = 30.0
_PAUSE_S = 5.0  # between two tries

_repeats_lock, _unrepeated = threading.Lock(), 0
_repeats: str | None = None


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or by default the sqlite file `mlflow.db` of the project.

    Raises: UserError where it names no file and no host.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or "sqlite:///mlflow.db"
    if is_remote(uri) and not urlsplit(uri).hostname:
        raise UserError(f"MLFLOW_TRACKING_URI {uri} names no host: write it as http://HOST:PORT")
    path = sqlite_file(uri)
    return uri if path is None else f"sqlite:///{path}"


def is_remote(uri: str) -> bool:
    """Tell whether a URI is that of a server (http or https)."""
    return urlsplit(uri).scheme in ("http", "https")


def shown(uri: str) -> str:
    """Remove user name and password from the URI."""
    return faults.without_secret(uri, uri)


def client(tracking: TrackingParams | None = None) -> MlflowClient:
    """Connect to the store, waiting for a server that is away, and return a client of it.

    Args:
        tracking: says how long a server that is away is waited for, with one line when that begins and one when it
            ends; None: not at all, for who tries again by other means.

    Raises:
        TryAgainError: one line, when the server stays away or the database fails.
        UserError: one line, when the server refuses us or the store can't be used.
    """
    began = time.monotonic()
    waiting = False
    while True:
        try:
            connected = _connected()
        except TryAgainError as error:
            left_s = _patience_s(tracking) - (time.monotonic() - began)
            if left_s <= 0 or not is_remote(tracking_uri()):
                raise
            if not waiting:
                say(f"{error}; waiting for it, at most {left_s:.0f} s")
            waiting = True
            time.sleep(min(_PAUSE_S, left_s))
        else:
            if waiting:
                say(f"MLflow at {shown(tracking_uri())} answers after {time.monotonic() - began:.0f} s")
            return connected


def _patience_s(tracking: TrackingParams | None) -> float:
    """Return the seconds to wait for a server: as params say, else by engine; 0 without params."""
    if tracking is None:
        return 0.0
    return _PATIENCE_S.get(engine(), _SHORT_PATIENCE_S) if tracking.patience_s is None else tracking.patience_s


def _connected() -> MlflowClient:
    """Connect once and return the client; raises as `client` does."""
    uri = tracking_uri()
    mlflow = import_mlflow()
    with answering():
        if is_remote(uri):
            channel.check(uri)
            _probe(uri)
        if (path := sqlite_file(uri)) is not None:
            _refuse_read_only(path)
            ready(path)
        try:
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
            client = mlflow.MlflowClient(uri, registry_uri=uri)
            client.search_experiments(max_results=1)
        except (mlflow.exceptions.MlflowException, ValueError, ImportError) as error:
            if faults.complaint(error, uri) is not None:
                raise
            raise UserError(
                f"MLFLOW_TRACKING_URI {shown(uri)} can't be used: {faults.first_line(error, uri)}"
            ) from None
    return client


@contextmanager
def unrepeated() -> Iterator[None]:
    """Send the requests inside the block once each, although mlflow repeats those whose answer is lost.

    mlflow reads the number of repetitions from the environment, which threads share; so the last to leave restores it.
    """
    global _unrepeated, _repeats
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    with _repeats_lock:
        if _unrepeated == 0:
            _repeats = os.environ.get(name)
            os.environ[name] = "0"
        _unrepeated += 1
    try:
        yield
    finally:
        with _repeats_lock:
            _unrepeated -= 1
            if _unrepeated == 0:
                if _repeats is None:
                    del os.environ[name]
                else:
                    os.environ[name] = _repeats


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Make other processes of this machine wait that do the same at the same store, so that they find what we made."""
    uri = tracking_uri()
    user = os.getuid() if hasattr(os, "getuid") else "user"  # Windows has a temporary folder for each user
    path = sqlite_file(uri)
    folder = Path(gettempdir()) / f"segops-{user}" if path is None else path.parent / ".segops" / "locks"
    with hold(folder / f"{sha256_lines([uri, name])[:16]}.lock"):
        yield


@contextmanager
def answering() -> Iterator[None]:
    """Turn a store's failure inside the block into an error of one line. Other MLflow errors pass: they are bugs."""
    try:
        yield
    except OneLineError:
        raise
    except Exception as error:
        if (complaint := faults.complaint(error, tracking_uri())) is None:
            raise
        raise complaint from None


def reason(error: BaseException) -> str:
    """Describe why an error came, in a few words and without credentials."""
    return faults.reason(error, tracking_uri())


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of the experiment called `name`, created if missing. Raises UserError when it was deleted."""
    from mlflow.exceptions import MlflowException

    if (found := find_experiment(client, name)) is not None:
        return found
    # A store without a server would otherwise put artifacts into ./mlruns of whoever comes first.
    location = None if is_remote(tracking_uri()) else (project_root() / ARTIFACTS).as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # somebody else's, or ours, whose first answer is lost
            raise
    found = find_experiment(client, name)
    assert found is not None
    return found


def find_experiment(client: MlflowClient, name: str) -> str | None:
    """Return the id of the experiment called `name`, or None. Raises UserError when it was deleted."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return None
    if found.lifecycle_stage == "deleted":
        raise UserError(
            f"MLflow's experiment '{name}' is deleted; restore it with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}` or change tracking.experiment"
        )
    return str(found.experiment_id)


def import_mlflow() -> ModuleType:
    """Import mlflow, made silent and set to short timeouts, and what it needs of databases where the store is one."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    if not is_remote(tracking_uri()):  # alembic and sqlalchemy are half a second of imports
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = 1  # a dead database would be tried for 100 s, in silence
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs tracebacks of what it raises
    return cast("ModuleType", mlflow)


def _probe(uri: str) -> None:
    """Send one short request with mlflow's own credentials, TLS settings and proxies. Raises if MLflow isn't there."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking._tracking_service.utils import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    answer = http_request(
        get_default_host_creds(uri), "/health", "GET", max_retries=0, timeout=_PROBE_S, raise_on_status=False
    )
    if answer.status_code >= 500:
        raise MlflowException(f"/health failed with error code {answer.status_code}")
    if answer.status_code == 200 and answer.text.strip() != "OK":
        raise MlflowException(f"/health {faults.NOT_MLFLOW}")


def _refuse_read_only(path: Path) -> None:
    """Raise UserError if the sqlite file can't be written, which mlflow would try for two minutes."""
    there = path if path.exists() else path.parent
    if there.exists() and not os.access(there, os.W_OK):
        raise UserError(f"{there} can't be written, so MLflow can't keep its store there; change its permissions")
