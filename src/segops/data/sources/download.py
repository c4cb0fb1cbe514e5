"""Fetches a remote file in parts: parallel, resumed where it broke off, never a wrong byte.

A part is asked for by its byte range. What arrived stays: a connection that is cut resumes at the byte it reached, and
a killed process leaves the finished parts and their list, so that the next process fetches the rest.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from segops.errors import TryAgainError, UserError
from segops.files import MIB, md5_file, sha256_lines, write_json
from segops.progress import note

PART_BYTES = 8 * MIB
_TRIES = 5  # without a byte of progress
_FIRST_PAUSE_S = 0.5
_SAY_EVERY_S = 10.0


T = TypeVar("T")


class Interrupted(Exception):  # noqa: N818 - what a network does, not a fault of ours
    """The server or the network gave up for now; asking again may help."""


@dataclass(frozen=True)
class Fetched:
    """A source brought to this machine.

    Attributes:
        path: a file or a folder.
        uri: what was asked for, without user name and password.
        revision: what names this state of the source for good: a commit, an object's version or ETag; None: nothing.
    """

    path: Path
    uri: str
    revision: str | None


class Remote(Protocol):
    """A remote file of known size."""

    uri: str  # for people, without secrets
    key: str  # tells it from every other remote file
    size_bytes: int
    version: str | None  # changes with the content: ETag or Last-Modified; None: unknown
    ranges: bool  # whether the server can send a part
    md5: str | None  # of the content, where the server names it

    def read(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the bytes begin..end - 1. Raises Interrupted, or UserError where asking again can't help."""


def download(remote: Remote, cache: Path, *, connections: int, quiet: bool = False) -> Path:
    """Fetch a remote file into its folder under `cache`, or take the file that is there.

    Args:
        cache: holds a folder for each URI and version; a finished file there is taken as it is.
        connections: parts fetched at the same time.
        quiet: print no line of progress, as for a file among many.

    Raises: UserError: the server doesn't let us, or keeps failing; finished parts stay for the next try.
    """
    folder = cache / sha256_lines([remote.key, str(remote.version), str(remote.size_bytes)])[:32]
    path = folder / Path(remote.uri).name
    if remote.version is None:
        shutil.rmtree(folder, ignore_errors=True)  # nothing says that it is still the same file
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(remote, path, connections, quiet)
    return path


def patiently(ask: Callable[[], T], uri: str) -> T:
    """Ask a server until it answers, with growing pauses; return the answer. Raises TryAgainError at the end."""
    for pause in range(_TRIES):
        try:
            return ask()
        except Interrupted as error:
            reason = str(error)
            time.sleep(_FIRST_PAUSE_S * 2**pause if pause < _TRIES - 1 else 0)
    raise TryAgainError(
        f"{uri}: {reason}, {_TRIES} times in a row; see that the server answers, then run the command again"
    )


def _fetch(remote: Remote, path: Path, connections: int, quiet: bool) -> None:
    """Fetch a file's missing parts into `<path>.partial`, check its MD5 where known, and rename it to `path`."""
    partial, list_file = path.with_name(f"{path.name}.partial"), path.with_name(f"{path.name}.parts.json")
    plan = _parts(remote.size_bytes) if remote.ranges else [(0, remote.size_bytes)]
    done = _finished(list_file, partial, remote.size_bytes) & set(plan) if remote.ranges else set()
    with partial.open("r+b" if partial.exists() else "w+b") as file:
        file.truncate(remote.size_bytes)
    bar = _Progress(remote, sum(end - begin for begin, end in done), quiet)
    with ThreadPoolExecutor(connections) as pool:
        waiting = {pool.submit(_fetch_part, remote, partial, part): part for part in plan if part not in done}
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    part = waiting.pop(future)
                    future.result()
                    done.add(part)
                    write_json(list_file, sorted(done))
                    bar.add(part[1] - part[0])
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if remote.md5 is not None and (md5 := md5_file(partial)) != remote.md5:
        partial.unlink()
        list_file.unlink()
        raise UserError(
            f"{remote.uri}: what arrived has MD5 {md5}, the server names {remote.md5}; it was removed: run the same "
            "command again"
        )
    partial.replace(path)
    list_file.unlink(missing_ok=True)


def _parts(size_bytes: int) -> list[tuple[int, int]]:
    """Cut a file into byte ranges of PART_BYTES."""
    return [(begin, min(begin + PART_BYTES, size_bytes)) for begin in range(0, size_bytes, PART_BYTES)]


def _finished(list_file: Path, partial: Path, size_bytes: int) -> set[tuple[int, int]]:
    """Return the parts that an earlier process finished; none where its file isn't there in full."""
    try:
        if partial.stat().st_size != size_bytes:
            return set()
        return {(int(begin), int(end)) for begin, end in json.loads(list_file.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError):
        return set()


def _fetch_part(remote: Remote, partial: Path, part: tuple[int, int]) -> None:
    """Fetch a part of the file; where the server breaks off, resume at the byte that was reached."""
    position, end = part
    failures = 0
    with partial.open("r+b") as file:
        file.seek(position)
        while position < end:
            before = position
            try:
                for piece in remote.read(position, end):
                    if len(piece) > end - position:
                        raise Interrupted("it sent more bytes than were asked for")
                    file.write(piece)
                    position += len(piece)
                reason = "the body was shorter than promised"
            except Interrupted as error:
                reason = str(error)
            if position < end:
                failures = failures + 1 if position == before or not remote.ranges else 1
                if failures >= _TRIES:
                    raise TryAgainError(
                        f"{remote.uri}: {reason}, {_TRIES} times in a row; run the same command again: it resumes from "
                        "what has arrived"
                    )
                time.sleep(_FIRST_PAUSE_S * 2 ** (failures - 1))
                if not remote.ranges:
                    position = part[0]
                    file.seek(position)


class _Progress:
    """Prints plain lines of progress, seldom enough for a log."""

    def __init__(self, remote: Remote, done_bytes: int, quiet: bool) -> None:
        self.remote, self.done_bytes, self.quiet, self.said_at_s = remote, done_bytes, quiet, time.monotonic()
        if quiet:
            return
        resumed = f", {done_bytes / MIB:.0f} MiB of it here already" if done_bytes else ""
        note(f"fetching {remote.uri}: {remote.size_bytes / MIB:.1f} MiB{resumed}")

    def add(self, size_bytes: int) -> None:
        """Count bytes that arrived, and print the share now and then."""
        self.done_bytes += size_bytes
        if not self.quiet and time.monotonic() - self.said_at_s > _SAY_EVERY_S:
            self.said_at_s = time.monotonic()
            note(f"{self.remote.uri}: {self.done_bytes / max(self.remote.size_bytes, 1):.0%}")
