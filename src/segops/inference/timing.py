"""How long a call takes. A time belongs in no deterministic file."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

_FEWEST_RUNS, _MOST_RUNS = 3, 15
_ENOUGH_S = 10.0  # no further run from then on: a large image takes long


def seconds(run: Callable[[], object]) -> float:
    """Call `run`, which returns when its result is there, and return how long it took."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def median_milliseconds(run: Callable[[], object]) -> float:
    """Call `run` up to 15 times and return the median of its times; a call before these, the slowest, isn't counted."""
    run()
    times_s: list[float] = []
    while len(times_s) < _FEWEST_RUNS or (len(times_s) < _MOST_RUNS and sum(times_s) < _ENOUGH_S):
        times_s.append(seconds(run))
    return statistics.median(times_s) * 1000
