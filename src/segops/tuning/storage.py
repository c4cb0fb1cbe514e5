"""Opens the storage of studies: a journal file, or a database that several machines share."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import optuna
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback

from segops.errors import TryAgainError, UserError, disk_full
from segops.files import project_root
from segops.params.tune import STORAGE_VARIABLE, TuneParams, check_storage
from segops.progress import say
from segops.tuning.journal import open_journal

FOLDER, JOURNAL = Path(".segops/tuning"), "journal.log"
SILENT = 3  # heartbeats that a live worker may miss
_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)  # between attempts at a database that is away
_SQLITE = "sqlite:///"
_SERVER = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}  # seconds; a silent host would take minutes

Result = TypeVar("Result")


class StorageAwayError(TryAgainError):
    """The storage doesn't answer: no trial's fault."""


def storage_url(tune: TuneParams) -> str | None:
    """Return the database's URL; None for the journal file. Raises UserError for a wrong URL in the environment."""
    url = os.environ.get(STORAGE_VARIABLE, "").strip() or tune.storage
    if url is None:
        return None
    try:
        check_storage(url, secret=True)
    except ValueError as error:
        raise UserError(f"{STORAGE_VARIABLE}: {error}") from None
    if url.startswith(_SQLITE):
        path = project_root() / url.removeprefix(_SQLITE)
        path.parent.mkdir(parents=True, exist_ok=True)
        return f"{_SQLITE}{path}"
    return url


def open_storage(tune: TuneParams) -> BaseStorage:
    """Open the storage; it is made where it isn't there. Raises StorageAwayError when it doesn't answer."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    url = storage_url(tune)
    if url is None:
        return open_journal(project_root() / FOLDER / JOURNAL)
    return answering(tune, lambda: _database(url, tune.heartbeat_s))


def _database(url: str, heartbeat_s: int) -> BaseStorage:
    """Connect to a database, with heartbeats that find dead workers."""
    storage = RDBStorage(
        url,
        engine_kwargs={} if url.startswith(_SQLITE) else _SERVER,
        heartbeat_interval=heartbeat_s,
        grace_period=SILENT * heartbeat_s,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=1),
    )
    return optuna.storages.get_storage(storage)  # a cache that all Study objects share; by itself each makes its own


def answering(tune: TuneParams, call: Callable[[], Result]) -> Result:
    """Return what `call` returns, tried again for half a minute while the database is away.

    Raises:
        StorageAwayError: it stays away; the text has no password.
        DiskFullError: the disk of its file is full.
        UserError: it can't be used.
    """
    from sqlalchemy.exc import DBAPIError, NoSuchModuleError

    for pause_s in (*_PAUSES_S, None):
        try:
            return call()
        except (DBAPIError, optuna.exceptions.StorageInternalError) as error:
            _raise_lasting(tune, error)
            if pause_s is None:
                raise StorageAwayError(_away(tune, error)) from None
            say(f"tune.storage doesn't answer; tried again in {pause_s:g} s")
            time.sleep(pause_s)
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise UserError(
                f"tune.storage: the database's driver is missing ({error}); pip install 'segops[postgresql]'"
            ) from None
    raise AssertionError


def _raise_lasting(tune: TuneParams, error: BaseException) -> None:
    """Raise what waiting doesn't help against: the disk is full, or the file is no database."""
    from sqlalchemy.exc import DatabaseError, OperationalError

    path = Path((storage_url(tune) or "").removeprefix(_SQLITE))
    if (full := disk_full(error, path)) is not None:
        raise full from None
    cause = error if isinstance(error, DatabaseError) else error.__cause__
    if isinstance(cause, DatabaseError) and not isinstance(cause, OperationalError):
        raise UserError(
            f"tune.storage {path} is no database of Optuna's, or a broken one ({cause.orig}): move it away, or name "
            "another"
        ) from None


def _away(tune: TuneParams, error: BaseException) -> str:
    """Word the error about a storage that doesn't answer, without the password."""
    url = storage_url(tune) or ""
    parts = urlsplit(url)
    public_url = url.replace(f"{parts.netloc.rpartition('@')[0]}@", "") if "@" in parts.netloc else url
    cause = error.__cause__ or getattr(error, "orig", None) or error
    reason = str(cause).strip().splitlines()[0][:200] if str(cause).strip() else type(cause).__name__
    if parts.password:
        reason = reason.replace(parts.password, "***")
    return (
        f"tune.storage {public_url} does not answer ({reason}); trials that ended are kept there: start it and run the "
        "same command again"
    )
