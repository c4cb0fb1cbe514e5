"""Fetches a remote file in parts: parallel, resumed where it broke off, never a wrong byte.

A part is asked for by its byte range. What arrived stays: a connection that is cut resumes at the byte it reached, and
a killed process leaves the finished parts and their list, so that the next process fetches the rest.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from segops.errors import TryAgainError, UserError, require_space
from segops.files import MIB, naming, parse_json, sha256_lines, write_json
from segops.locks import hold
from segops.progress import note, say

PART_BYTES = 8 * MIB
_TRIES = 5  # without progress
_FIRST_PAUSE_S = 0.5
_SAY_EVERY_S = 10.0
_STALL_S, _STALL_BYTES = 60.0, 64 * 1024  # a body that brings less in that time hangs
_LONGEST_NAME = 200  # bytes; a disk's limit is 255, and suffixes come on top


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

    def read(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the bytes begin..end - 1. Raises Interrupted, or UserError where asking again can't help."""

    def check(self, path: Path) -> str | None:
        """Compare what arrived with the server's own sum of it.

        Returns: why they can't be compared; None: they are equal, or another check follows. Raises UserError where they
        differ.
        """


def download(remote: Remote, cache: Path, *, connections: int, quiet: bool = False) -> Path:
    """Fetch a remote file into its folder under `cache`, or take the file that is there.

    Of two processes that want the same file, the second waits and takes what the first fetched.

    Args:
        cache: holds a folder for each URI and version; a finished file there is taken as it is.
        connections: parts fetched at the same time.
        quiet: print no line of progress, as for a file among many.

    Raises: UserError: the server doesn't let us, or keeps failing; finished parts stay for the next try.
    """
    folder = cache / sha256_lines([remote.key, str(remote.version), str(remote.size_bytes)])[:32]
    path = folder / _file_name(remote.uri)
    with fetching(folder, remote.uri), naming(path):
        if remote.version is None:
            shutil.rmtree(folder, ignore_errors=True)  # nothing says that it is still the same file
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _fetch(remote, path, connections, quiet)
    return path


@contextmanager
def fetching(folder: Path, uri: str) -> Iterator[None]:
    """Hold the lock of a download's folder, after another process that fetches the same."""
    lock = folder.with_name(f"{folder.name}.lock")
    with hold(lock, waiting=lambda: say(f"{uri}: another process is fetching it; waiting for it")):
        yield


def patiently(ask: Callable[[], T], uri: str) -> T:
    """Ask a server until it answers, with growing pauses; return the answer. Raises TryAgainError at the end."""
    for attempt in range(1, _TRIES + 1):
        try:
            return ask()
        except Interrupted as error:
            reason = str(error)
            if attempt < _TRIES:
                say(f"{uri}: {reason}; asking again ({attempt + 1} of {_TRIES})")
                time.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
    raise TryAgainError(
        f"{uri}: {reason}, {_TRIES} times in a row; see that the server answers, then run the command again"
    )


def _file_name(uri: str) -> str:
    """Return the last part of a URI as a file's name, shortened from the left where a disk would refuse it."""
    name = PurePosixPath(uri).name.encode()
    return name[-_LONGEST_NAME:].decode(errors="ignore")


def _fetch(remote: Remote, path: Path, connections: int, quiet: bool) -> None:
    """Fetch a file's missing parts into `<path>.partial`, check what arrived, and rename it to `path`."""
    partial, list_file = path.with_name(f"{path.name}.partial"), path.with_name(f"{path.name}.parts.json")
    finished = _finished(list_file, partial, remote.size_bytes) if remote.ranges else set()
    require_space(partial, remote.size_bytes - sum(end - begin for begin, end in finished))
    plan = _parts(remote.size_bytes) if remote.ranges else [(0, remote.size_bytes)]
    done = finished & set(plan)
    done_bytes = sum(end - begin for begin, end in done)
    with partial.open("r+b" if partial.exists() else "w+b") as file:
        file.truncate(remote.size_bytes)
    bar = _Progress(remote, done_bytes, quiet)
    with ThreadPoolExecutor(connections) as pool:
        waiting = {pool.submit(_fetch_part, remote, partial, part, bar): part for part in plan if part not in done}
        try:
            while waiting:
                for future in wait(waiting, timeout=_SAY_EVERY_S, return_when=FIRST_COMPLETED).done:
                    part = waiting.pop(future)
                    future.result()
                    done.add(part)
                    write_json(list_file, sorted(done))
                bar.show()
        except BaseException:
            bar.stopped = True
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    _check(remote, partial, list_file, quiet)
    partial.replace(path)
    list_file.unlink(missing_ok=True)


def _check(remote: Remote, partial: Path, list_file: Path, quiet: bool) -> None:
    """Hold what arrived against the server's sum; a file that differs is removed, one without a sum is said to be."""
    try:
        unchecked = remote.check(partial)
    except UserError:
        partial.unlink()
        list_file.unlink(missing_ok=True)
        raise
    if unchecked and not quiet:
        say(f"{remote.uri}: not checked against the server's copy ({unchecked}); ingest.sha256 would check it")


def _parts(size_bytes: int) -> list[tuple[int, int]]:
    """Cut a file into byte ranges of PART_BYTES."""
    return [(begin, min(begin + PART_BYTES, size_bytes)) for begin in range(0, size_bytes, PART_BYTES)]


def _finished(list_file: Path, partial: Path, size_bytes: int) -> set[tuple[int, int]]:
    """Return the parts that an earlier process finished; none where its file isn't there in full."""
    try:
        if partial.stat().st_size != size_bytes:
            return set()
        return {(int(begin), int(end)) for begin, end in parse_json(list_file.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError):
        return set()


def _fetch_part(remote: Remote, partial: Path, part: tuple[int, int], bar: _Progress) -> None:
    """Fetch a part of the file; where the server breaks off, resume at the byte that was reached."""
    position, end = part
    failures = 0
    with partial.open("r+b") as file:
        file.seek(position)
        while position < end:
            before, reason = position, "the body was shorter than promised"
            try:
                for piece in _flowing(remote.read(position, end)):
                    if bar.stopped:
                        return
                    if len(piece) > end - position:
                        raise Interrupted("it sent more bytes than were asked for")
                    file.write(piece)
                    position += len(piece)
                    bar.add(len(piece))
            except Interrupted as error:
                reason = str(error)
            if position < end:
                came = position - before if remote.ranges else 0
                failures = 1 if came >= _STALL_BYTES else failures + 1
                if failures >= _TRIES:
                    raise TryAgainError(
                        f"{remote.uri}: {reason}, {_TRIES} times in a row; run the same command again: it resumes from "
                        "what has arrived"
                    )
                bar.failed(f"{reason}; asking again ({failures + 1} of {_TRIES})")
                time.sleep(_FIRST_PAUSE_S * 2 ** (failures - 1))
                if not remote.ranges:
                    bar.add(part[0] - position)
                    position = part[0]
                    file.seek(position)


def _flowing(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a body. Raises Interrupted where it hardly flows: a byte now and then never times out."""
    since_s, came = time.monotonic(), 0
    for piece in pieces:
        yield piece
        came += len(piece)
        if came >= _STALL_BYTES:
            since_s, came = time.monotonic(), 0
        elif time.monotonic() - since_s > _STALL_S:
            raise Interrupted(f"it sent {came} bytes in {_STALL_S:.0f} s")


class _Progress:
    """Prints plain lines of progress, seldom enough for a log; the parts' threads tell it what came."""

    def __init__(self, remote: Remote, done_bytes: int, quiet: bool) -> None:
        self.remote, self.done_bytes, self.quiet, self.said_at_s = remote, done_bytes, quiet, time.monotonic()
        self.stopped = False  # a part failed for good: the others end at their next piece
        self._lock, self._last = threading.Lock(), ""
        if quiet:
            return
        resumed = f", {done_bytes / MIB:.0f} MiB of it here already" if done_bytes else ""
        note(f"fetching {remote.uri}: {remote.size_bytes / MIB:.1f} MiB{resumed}")

    def add(self, size_bytes: int) -> None:
        """Count bytes that arrived."""
        with self._lock:
            self.done_bytes += size_bytes

    def show(self) -> None:
        """Print the share that is here, now and then."""
        if not self.quiet and time.monotonic() - self.said_at_s > _SAY_EVERY_S:
            self.said_at_s = time.monotonic()
            note(f"{self.remote.uri}: {self.done_bytes / max(self.remote.size_bytes, 1):.0%}")

    def failed(self, text: str) -> None:
        """Print why a part is asked for again, once for parts that fail together."""
        with self._lock:
            said, self._last = text == self._last, text
        if not said:
            say(f"{self.remote.uri}: {text}")
