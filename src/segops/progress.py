"""Shows the progress of long work: a bar in a terminal, few plain lines elsewhere, nothing under `--quiet`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import NamedTuple, TypeVar

from segops.secrets import without_secrets

T = TypeVar("T")
QUIET = "SEGOPS_QUIET"  # of the environment, so that the processes of a training know it too
_LINE_EVERY_S = 10.0


def say(text: str) -> None:
    """Print a line that a person needs to stderr; stdout is kept for a command's result."""
    print(without_secrets(text), file=sys.stderr, flush=True)  # noqa: T201


def note(text: str) -> None:
    """Print a line on how work goes on, which `--quiet` leaves out, to stderr."""
    if not quiet():
        say(text)


def quiet() -> bool:
    """Tell whether progress is left out."""
    return bool(os.environ.get(QUIET))


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` and show how many are done; `what` names the work, e.g. `ingest`."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if _watched():
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(items, what, total=total, console=Console(stderr=True), transient=True)
        return
    lines = Lines()
    for done, item in enumerate(items, start=1):
        yield item
        lines.note(f"{what}: {done}/{total}" if total else f"{what}: {done}")


class Lines:
    """Prints a line every few seconds at most: a log file of a thousand epochs isn't read.

    Args:
        first: print the first line too, however soon it comes.
    """

    def __init__(self, *, first: bool = False) -> None:
        self._said_at_s = float("-inf") if first else time.monotonic()

    def note(self, text: str, *, last: bool = False) -> None:
        """Print a line unless one was printed just now; the last line, and each in a terminal, always."""
        if last or _watched() or time.monotonic() - self._said_at_s > _LINE_EVERY_S:
            self._said_at_s = time.monotonic()
            note(text)


class Left(NamedTuple):
    """The seconds that work still takes: about so many, or at least so many."""

    seconds: float
    at_least: bool = False

    def __str__(self) -> str:
        """Word it; nothing where nothing is left."""
        return f"{'at least ' * self.at_least}{duration(self.seconds)} left" if self.seconds else ""


class Pace:
    """Estimates how long the rest of some steps will take, from those done since it was made.

    Args:
        steps: number of all steps.
        cheap: number of the first that may take less time than those after them, of which they tell the least alone.
    """

    def __init__(self, steps: int, *, cheap: int = 0) -> None:
        self._steps, self._cheap = steps, cheap
        self._began_s, self._done = time.monotonic(), 0

    def step(self, number: int) -> Left:
        """Count the step of this number (1-based), which is done; return what those after it will take."""
        now_s, cheap = time.monotonic(), number <= self._cheap
        self._done += 1
        left = Left((now_s - self._began_s) / self._done * (self._steps - number), at_least=cheap)
        if number == self._cheap:
            self._began_s, self._done = now_s, 0
        return left


def _watched() -> bool:
    """Tell whether a bar can be drawn: a terminal that is ours alone, which under `dvc repro` it isn't."""
    return sys.stderr.isatty() and "DVC_STAGE" not in os.environ and not quiet()


def counted(number: int, noun: str) -> str:
    """Write a number of things: 1 image, 2 images, 1,200 images.

    Args:
        noun: in the singular; its plural ends with s.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Write how long something takes, as finely as one plans by: 8 s, 3 min, 1 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
