"""Kill a stage, a registration, a promotion or the making of the first store at a random moment, and run it again."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

from benchmarks.chaos import command
from benchmarks.chaos.command import Ended
from benchmarks.chaos.outcome import Outcome
from benchmarks.chaos.project import STAGES, Project, free

NAME = "kills"
_TRIES = {
    "ingest": 18, "validate": 8, "split": 18, "prepare": 16, "train": 20, "evaluate": 16, "compare": 8,
    "register": 14, "promote": 24, "first store": 20,
}  # fmt: skip
_ABANDONED_S = 4.0  # instead of 150: when another process may settle what a dead one left open


def run(folder: Path, share: float, seed: int) -> Iterator[Outcome]:
    """Yield what became of each kill: `right` where the same command then ends as if there had been none."""
    draw = random.Random(seed)
    project = Project(folder / "project")
    for what, tries in _TRIES.items():
        for number in range(max(1, round(tries * share))):
            how = signal.SIGTERM if number % 3 == 2 else signal.SIGKILL
            part = draw.random()
            case = f"{what}, {how.name} at {part:.2f}"
            if what == "first store":
                yield first_store(folder / "case", how, part, case)
            else:
                yield _stage(project, what, folder / "case", how, part, case)
            free(folder / "case")


def _stage(project: Project, stage: str, case: Path, how: signal.Signals, part: float, name: str) -> Outcome:
    """Kill a stage after a part of the time that it takes alone, and run it again."""
    copy = project.copy(stage, case)
    before = soon_abandoned if stage == "promote" else None
    killed = command.start(STAGES[stage], copy, before=before)
    time.sleep(part * project.seconds[stage])
    with suppress(ProcessLookupError):
        killed.kill(how)
    first = killed.ended()
    again = command.run(STAGES[stage], copy, before=before)
    if stage == "promote" and again.code != 0:
        again = settled(again, copy, before)
    problem = project.problem(stage, copy)
    for ended in (first, again):
        if ended.is_traceback:
            return Outcome(NAME, name, "traceback", ended.error)
    if again.code != 0:
        return Outcome(NAME, name, "wrong", f"again: exit code {again.code}, {again.line}")
    if problem is not None:
        return Outcome(NAME, name, "doubled" if "instead of 1" in problem and "0 " not in problem else "wrong", problem)
    return Outcome(NAME, name, "right", "")


def soon_abandoned() -> None:
    """Let this process take what a dead one left open for abandoned after seconds, not minutes."""
    from segops.tracking import ledger

    ledger.ABANDONED_S = _ABANDONED_S


def settled(
    refused: Ended, project: Path, before: Callable[[], object] | None, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run a promotion again that was refused, as its line says: it was made already, or another is being made."""
    if refused.line is not None and "is the champion already" in refused.line:
        return Ended(0, "", refused.seconds)
    time.sleep(_ABANDONED_S)
    again = command.run(STAGES["promote"], project, environment=environment, before=before)
    if again.line is not None and "is the champion already" in again.line:
        return Ended(0, "", again.seconds)
    return again


def first_store(project: Path, how: signal.Signals, part: float, name: str) -> Outcome:
    """Kill the first command that makes the store, then ask it twice."""
    project.mkdir(parents=True)
    (project / "params.yaml").write_text("{ingest: {source: unused}, candidates: {net: {model: {architecture: unet}}}}")
    killed = command.start(["history"], project)
    deadline = time.monotonic() + command.LIMIT_S
    while not [*project.glob("*mlflow.db*"), *project.glob(".*mlflow.db*")] and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(part * 2)
    with suppress(ProcessLookupError):
        killed.kill(how)
    first = killed.ended()
    for ended in (first, command.run(["history"], project), command.run(["history"], project)):
        if ended.is_traceback:
            return Outcome(NAME, name, "traceback", ended.error)
    if ended.code != 0:
        return Outcome(NAME, name, "wrong", f"for ever: {ended.line}")
    with closing(sqlite3.connect(project / "mlflow.db")) as store:
        whole = store.execute("SELECT count(*) FROM experiments").fetchone()[0] >= 1
    return Outcome(NAME, name, "right" if whole else "wrong", "" if whole else "a store without an experiment")
