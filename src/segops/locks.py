"""Holds locks that the system releases when their process dies, and lets signals wait for a short piece of work."""

from __future__ import annotations

import fcntl
import os
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from segops.errors import UserError

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def hold(path: Path, *, refuse: str | None = None) -> Iterator[None]:
    """Hold the lock file `path` against other processes; the system releases it when this process dies.

    Args:
        path: made where it is missing; tells who holds it.
        refuse: raise UserError with this text, `{holder}` filled in, when another process holds it; without: wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if refuse else 0))
        except BlockingIOError:
            file.seek(0)
            assert refuse is not None
            raise UserError(refuse.format(holder=file.read().strip() or "another process")) from None
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


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
