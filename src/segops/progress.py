"""Shows the progress of long work: a bar in a terminal, plain lines in a pod or a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
_LINE_EVERY_S = 10.0


def say(text: str) -> None:
    """Print a plain line to stderr; stdout is kept for a command's result."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` and show how many are done; `what` names the work, e.g. `ingest`."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(items, what, total=total, console=Console(stderr=True), transient=True)
        return
    said_at_s = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - said_at_s > _LINE_EVERY_S:
            said_at_s = time.monotonic()
            say(f"{what}: {done}/{total}" if total else f"{what}: {done}")


def counted(number: int, noun: str) -> str:
    """Write a number of things: 1 image, 2 images, 1,200 images.

    Args:
        noun: in the singular; its plural ends with s.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
