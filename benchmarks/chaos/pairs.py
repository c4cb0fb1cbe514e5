"""The same command twice at once: one of them does it, the other does no harm and says so in a line."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.chaos import command
from benchmarks.chaos.outcome import Outcome
from benchmarks.chaos.project import STAGES, Project, free

NAME = "pairs"
_TRIES = {
    "ingest": 8, "validate": 3, "split": 12, "prepare": 8, "tune": 2, "train": 6, "evaluate": 6, "register": 5,
    "compare": 4, "promote": 8, "first store": 8,
}  # fmt: skip


def run(folder: Path, share: float, seed: int) -> Iterator[Outcome]:
    """Yield what became of each pair: `one line` where one of them was refused, `right` where both did it in turn."""
    draw = random.Random(seed)
    project = Project(folder / "project")
    for what, tries in _TRIES.items():
        for _ in range(max(1, round(tries * share))):
            part = draw.random()
            yield _pair(project, what, folder / "case", part)
            free(folder / "case")


def _pair(project: Project, what: str, case: Path, part: float) -> Outcome:
    """Start a command twice, the second after a part of the time that it takes alone."""
    stage = "ingest" if what == "first store" else what
    arguments = ["history"] if what == "first store" else STAGES[stage]
    name = f"{what}, the second after {part:.2f}"
    copy = project.copy(stage, case)
    first = command.start(arguments, copy)
    time.sleep(part * (2.0 if what == "first store" else project.seconds[stage]))
    second = command.start(arguments, copy)
    both = (first.ended(), second.ended())
    for ended in both:
        if ended.is_traceback:
            return Outcome(NAME, name, "traceback", ended.error)
    lines = [ended.line for ended in both if ended.line is not None]
    codes = [ended.code for ended in both]
    if 0 not in codes or len(lines) + codes.count(0) != 2:
        return Outcome(NAME, name, "wrong", f"exit codes {codes}; {lines}")
    problem = project.problem(stage, copy) if what != "first store" else _again(copy)
    if problem is not None:
        doubled = "instead of 1" in problem and "0 " not in problem
        return Outcome(NAME, name, "doubled" if doubled else "wrong", f"exit codes {codes}; {problem}; {lines}")
    return Outcome(NAME, name, "one line" if lines else "right", lines[0] if lines else "")


def _again(project: Path) -> str | None:
    """Say what is wrong with a store that two made at once."""
    ended = command.run(["history"], project)
    return None if ended.code == 0 else f"afterwards: {ended.line}"
