"""Does equal work on many items in processes, and gives the results in the items' order.

Items are cut the same whatever the number of processes, and each is worked on by itself, so the results don't depend
on it. A process is spawned: it imports what its work needs, and nothing of torch unless the work does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple, TypeVar

from segops.errors import TryAgainError

Item = TypeVar("Item")
Result = TypeVar("Result")
_AHEAD = 2  # items a process that wait or are done, so that results don't pile up

_work: Callable[[Any], Any] | None = None  # of a worker process


def in_order(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Yield `work(item)` of each item, in their order.

    Args:
        work: picklable; each process gets its own copy once.
        items: picklable.
        workers: processes; with 1, or a single item, this process works by itself.

    Raises:
        Exception: the first item's, in their order, whose work fails; the other processes are ended.
        TryAgainError: a process was killed.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(work, items)
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(work,))
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_do, item))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise TryAgainError(
            "a worker process was killed, as the system does when memory is used up; lower runtime.workers, then run "
            "the same command again"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)


class Part(NamedTuple):
    """A pod's share of some items: of `parts` shares the one of this number, from 0 on."""

    number: int = 0
    parts: int = 1

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the share: items that follow each other, of nearly equal numbers."""
        first, last = (len(items) * part // self.parts for part in (self.number, self.number + 1))
        return items[first:last]


ALL = Part()
"""The only part of everything."""


def _begin(work: Callable[[Any], Any]) -> None:
    """Take the work of a process, which ends when its parent does; Ctrl-C is the parent's affair."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a worker"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _do(item: Any) -> Any:
    """Do a process's work on an item."""
    assert _work is not None, "a process begins with its work"
    return _work(item)
