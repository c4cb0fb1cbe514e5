"""Timed calls, a ratio of two figures of the same rounds with its spread, and the one table of such ratios."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

HEAD = ("what", "variant", "measured", "ratio to", "median", "least", "largest", "goal")


@dataclass(frozen=True)
class Ratio:
    """How a variant stands beside another: a ratio a round, so that a slow minute of the machine meets both.

    Attributes:
        what: what is done, e.g. `predict 256x256`.
        measured: the variant's own figure with its unit, the median of the rounds.
        base: what it is set beside.
        values: the ratios, one a round.
        goal: the least median that will do, where there is one.
    """

    what: str
    variant: str
    measured: str
    base: str
    values: tuple[float, ...]
    goal: float | None = None

    @property
    def median(self) -> float:
        """Return the median of the rounds."""
        return statistics.median(self.values)

    def cells(self) -> list[str]:
        """Return the row's cells, as `HEAD` names them."""
        spread = (self.median, min(self.values), max(self.values))
        verdict = "" if self.goal is None else f"{self.goal:g}, {'met' if self.median >= self.goal else 'missed'}"
        return [self.what, self.variant, self.measured, self.base, *(f"{value:.2f}" for value in spread), verdict]


def quotients(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Divide the figures of each round."""
    return tuple(upper / lower for upper, lower in zip(above, below, strict=True))


def table(ratios: Iterable[Ratio]) -> str:
    """Lay out the ratios as Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *(ratio.cells() for ratio in ratios)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


class Took(NamedTuple):
    """Seconds of a call, by the clock and of this process's threads."""

    clock_s: float
    cpu_s: float


def timed(run: Callable[[], object], times: int = 1) -> Took:
    """Time a call, the mean of several in a row."""
    began, before = time.perf_counter(), cpu_seconds()
    for _ in range(times):
        run()
    return Took((time.perf_counter() - began) / times, (cpu_seconds() - before) / times)


def cpu_seconds() -> float:
    """Return the processor's seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
