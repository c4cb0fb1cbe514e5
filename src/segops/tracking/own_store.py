"""A store in a sqlite file: its place, made whole or not at all, known when broken, and at home where its folder is."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from segops.errors import UserError
from segops.files import naming, project_root
from segops.locks import hold
from segops.progress import say

ARTIFACTS = "mlartifacts"
_SQLITE = re.compile(r"sqlite(\+\w+)?:", re.IGNORECASE)
_FILE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^/?:][^?]*|/[^/?][^?]*)(?:\?.*)?", re.IGNORECASE)
_HOME = re.compile(rf"(file:.*/{ARTIFACTS})(?:/\d+)?")  # where an experiment's artifacts are, below a project
_PLACES = (  # what holds the place of artifacts
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
_BUSY_S = 20.0  # that another process may write


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a sqlite URI, a relative one below the project; None for the URI of another store.

    Raises: UserError where a sqlite URI names no file.
    """
    if not _SQLITE.match(uri):
        return None
    if (named := _FILE.fullmatch(uri)) is None:
        raise UserError(
            f"MLFLOW_TRACKING_URI {uri} names no file: `sqlite:///mlflow.db`, with three slashes, is one in the "
            "project, `sqlite:////home/me/mlflow.db`, with four, one anywhere"
        )
    return project_root() / named["path"]


def ready(path: Path) -> None:
    """Make the store where it is missing, and see that it can be used and that its artifacts are where it is.

    Raises: UserError in a line, where something else is in its place, or where it is broken.
    """
    if path.is_dir():
        raise UserError(f"{path}: a folder stands where MLflow's store should be; move it away")
    if not _is_there(path):
        with naming(path), hold(path.parent / ".segops" / "locks" / f"{path.name}.lock"):
            if not _is_there(path):
                _make(path)
    homes = _homes(path)
    if path == project_root() / "mlflow.db":
        _settle(path, homes, (path.parent / ARTIFACTS).as_uri())


def _is_there(path: Path) -> bool:
    """Tell whether a file has content: sqlite makes an empty one before it writes."""
    return path.is_file() and path.stat().st_size > 0


def _make(path: Path) -> None:
    """Make a store under another name and rename it, so that a killed process leaves none, or a whole one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    try:
        SqlAlchemyStore(f"sqlite:///{partial}", (path.parent / ARTIFACTS).as_uri()).engine.dispose()
        partial.replace(path)
    finally:
        _remove(partial)


def _remove(partial: Path) -> None:
    """Remove a half-made store and what sqlite keeps beside it."""
    for ending in ("", "-journal", "-wal", "-shm"):
        partial.with_name(f"{partial.name}{ending}").unlink(missing_ok=True)


def _homes(path: Path) -> set[str]:
    """Return the places of the experiments' artifacts. Raises UserError where the file isn't a whole store."""
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            rows = database.execute("SELECT artifact_location FROM experiments") if "experiments" in tables else []
            homes = {str(location) for (location,) in rows}
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise UserError(broken(path, str(error))) from None
    if not homes:  # its making ends with the first experiment
        what = "half a store: whatever made it was cut off" if tables else "a database that holds nothing"
        raise UserError(f"{path} is {what}; nothing is in it: `mv {path} {path}.half` and run the same command again")
    return homes


def broken(path: Path, reason: str) -> str:
    """Word the error about a file that isn't a database any more, or never was."""
    return (
        f"{path} is no database, or a broken one ({reason}): `mv {path} {path}.broken`, put a copy of it back if there "
        "is one, else `segops register --missing` makes runs and versions from files, but no decisions"
    )


def _settle(path: Path, homes: set[str], here: str) -> None:
    """Write the project's place into a store whose folder was copied, moved or renamed: MLflow keeps whole paths."""
    matches = (_HOME.fullmatch(home) for home in homes)
    for former in {match[1] for match in matches if match is not None} - {here}:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as database, database:
            for table, column in _PLACES:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, length(?) + 1) "  # noqa: S608 - our own words
                    f"WHERE {column} = ? OR substr({column}, 1, length(?) + 1) = ? || '/'",
                    (here, *[former] * 4),
                )
        say(f"MLflow's store: artifacts were in {former}, and are looked for in {here} from now on")
