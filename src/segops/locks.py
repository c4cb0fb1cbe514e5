"""Holds locks that the system releases when their process dies, and lets signals wait for a short piece of work."""

from __future__ import annotations

import errno
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from segops.errors import UserError

_ENDING = (signal.SIGINT, signal.SIGTERM)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def hold(
    path: Path, *, refuse: str | None = None, waiting: Callable[[], None] | None = None, keep: bool = True
) -> Iterator[None]:
    """Hold the lock file `path` against other processes; the system releases it when this process dies.

    A process that is forked or spawned meanwhile doesn't hold it.

    Args:
        path: made where it is missing. `<path>.holder` beside it says who holds it, since Windows lets nobody read a
            file that is locked.
        refuse: raise UserError with this text, `{holder}` filled in, when another process holds it; without: wait.
        waiting: called where there is something to wait for, such as to say so.
        keep: False removes the file at the end, for a lock that stands among a user's files.

    Raises: UserError in a line, where the file system has no locks.
    """
    lock, holder = _lock(path), path.with_name(f"{path.name}.holder")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(blocking=refuse is None and waiting is None)
    except Timeout:
        if refuse is not None:
            raise UserError(refuse.format(holder=_text(holder) or "another process")) from None
        assert waiting is not None
        waiting()
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise UserError(
            f"{path.parent} is on a file system without locks ({os.strerror(error.errno)}), so a second command could "
            "spoil what this one writes; choose a folder on another disk, or mount it with locks"
        ) from None
    try:
        with suppress(OSError):  # a full disk; the lock holds without words about it
            holder.write_text(f"pid {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        yield
    finally:
        if lock.is_locked:  # not in a forked process
            holder.unlink(missing_ok=True)
            if not keep:
                path.unlink(missing_ok=True)  # who waits for it sees that it has no name any more, and makes another
            lock.release()


def is_held(path: Path) -> bool:
    """Tell whether a process, this one included, holds the lock file `path` right now."""
    if not path.exists():
        return False
    lock = _lock(path)
    try:
        with lock.acquire(blocking=False):
            return False
    except Timeout:
        return True


def _lock(path: Path) -> FileLock:
    """Make a lock of the system's own. A soft lock, a file whose existence counts, would outlive its process."""
    return FileLock(path, fallback_to_soft=False)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block ends, and then do what they would have done.

    For a few requests that belong together, since what interrupts the second tells nothing of the first. Outside
    the main thread, which alone receives signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    handlers = {number: signal.signal(number, lambda *came: waiting.append(came)) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for first, _ in waiting[:1]:
            signal.raise_signal(first)
