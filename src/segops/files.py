"""Writes files so that a killed process leaves the old file or the new file, never half a file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from segops import __version__
from segops.errors import OneLineError, UserError, disk_full
from segops.locks import hold

MIB, GIB = 2**20, 2**30  # bytes
_PARTIAL = ".partial"
_CONTENT = (None, errno.EISDIR, errno.ENOTDIR, errno.EINVAL)  # of an OSError that isn't the disk's fault
_LEFT_S = 3600.0  # a partial file that nobody wrote to for so long is a killed process's


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, this call's own; rename it to `path` on success, remove it on failure.

    Of two processes that write one file, the last leaves its own whole. What killed ones left is removed in time.
    """
    _make_folder_of(path)
    if path.is_dir():
        raise UserError(f"{path}: a folder stands where this file should be; move it or name another place")
    _sweep(path.parent.absolute())
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}{_PARTIAL}")
    try:
        with naming(path):
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder, at this process's first write there."""
    for left in folder.glob(f".*{_PARTIAL}"):
        with suppress(OSError):  # another process may remove it too
            if time.time() - left.stat().st_mtime > _LEFT_S:
                left.unlink()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` where a library finds its disk full; Python and other libraries don't say what they were writing."""
    try:
        yield
    except Exception as error:
        if (full := disk_full(error, path)) is not None:
            raise full from None
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with `\\n` line ends on every platform."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: keys in the order given, floats by repr, NaN refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


@contextmanager
def output_folder(path: Path, *, merge: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path` and publish it on success; on failure remove it.

    A lock keeps a second process out, and a left-over of a killed run is removed first. Without `merge` the published
    folder replaces `path`; with it, each entry replaces its namesake in `path` and other entries stay.

    Raises: UserError when another process writes this output, a file is in its place, or it is the folder that we are
        in, or one above it.
    """
    if Path.cwd().is_relative_to(os.path.realpath(path)):
        raise UserError(f"{path} holds the folder that this runs in; name a folder of its own for the output")
    _make_folder_of(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: a file stands where this folder should be; move it or name another place")
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    busy = f"{path} is being written by {{holder}}; wait for it or stop it, then run the same command again"
    with naming(path), hold(path.with_name(f".{path.name}.lock"), refuse=busy, keep=False):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            if merge and path.is_dir():
                for entry in sorted(partial.iterdir()):
                    _replace(entry, path / entry.name)
            else:
                _replace(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _make_folder_of(path: Path) -> None:
    """Make a path's folder. Raises UserError where a file is in its place."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{path}: a file stands where its folder should be; move it or name another place") from None


def _replace(source: Path, target: Path) -> None:
    """Move a file or folder to a path, in place of what is there, which is removed only afterwards."""
    earlier = target.with_name(f".{target.name}.earlier")
    shutil.rmtree(earlier, ignore_errors=True)
    if target.is_dir():
        target.replace(earlier)
    source.replace(target)
    shutil.rmtree(earlier, ignore_errors=True)


def parse_json(content: bytes | str) -> Any:
    """Parse JSON from anywhere. Raises ValueError for whatever is wrong, nesting that is too deep included."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


@contextmanager
def readable(path: Path, kind: str, fix: str) -> Iterator[None]:
    """Turn what a reader raises over a file's content into a UserError that names the file and the fix.

    Whatever it is, since readers of CSV, YAML and parquet raise errors of many families over bytes that they don't
    expect. A missing file passes, and so does a disk that fails.

    Args:
        path: the file.
        kind: what it should be, such as `CSV table`.
        fix: what to do, in an imperative.
    """
    try:
        yield
    except (OneLineError, FileNotFoundError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in _CONTENT:
            raise
        reason = "a folder" if path.is_dir() else " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: not a readable {kind} ({reason}); {fix}") from None


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(content: bytes) -> str:
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def md5_file(path: Path) -> str:
    """Return the MD5 of a file's bytes, read in pieces: what S3 and DVC name contents by."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256_lines(lines: Iterable[str]) -> str:
    """Return the SHA-256 of text lines, each ended by `\\n`."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def project_root() -> Path:
    """Return the folder that default stores are in: DVC's root where DVC runs us, else the working directory.

    `dvc exp run --temp` works in a temporary copy and sets DVC_ROOT to the repository, so stores outlive the copy.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


@contextmanager
def run_record(folder: Path, stage: str) -> Iterator[dict[str, Any]]:
    """Write `folder/run.json` when the block succeeds: what must not be in deterministic files.

    Yields a dict that the block may add to (run ids, device names). Fields: stage, engine, started (UTC, ISO 8601),
    seconds, host, python, segops.
    """
    extra: dict[str, Any] = {}
    started, clock = datetime.now(UTC), time.perf_counter()
    yield extra
    record = {
        "stage": stage,
        "engine": engine(),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 3),
        "host": platform.node(),
        "python": sys.version.split()[0],
        "segops": __version__,
        **extra,
    }
    write_json(folder / "run.json", record)


def engine() -> str:
    """Return who called the stage: `kfp` (its steps set SEGOPS_ENGINE), `dvc` or `cli`."""
    return os.environ.get("SEGOPS_ENGINE") or ("dvc" if os.environ.get("DVC_STAGE") else "cli")
