"""A search whose worker is killed, whose journal or database is torn, deleted or full, or away: then again."""

from __future__ import annotations

import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import yaml

from benchmarks.chaos import command
from benchmarks.chaos.outcome import Outcome
from benchmarks.chaos.project import STAGES, Project, free

NAME = "search"
_JOURNAL = Path(".segops/tuning/journal.log")
_TRIES = {"killed": 9, "torn": 6, "deleted": 5, "deleted meanwhile": 5, "no journal": 5, "full": 6, "database": 4}


def run(folder: Path, share: float, seed: int) -> Iterator[Outcome]:
    """Yield what became of each: `right` where the same search ends with the same result as if nothing had happened."""
    draw = random.Random(seed)
    project = Project(folder / "project", upto="tune")
    tries: dict[str, Callable[[Project, Path, random.Random], Outcome]] = {
        "killed": _killed, "torn": _torn, "deleted": _deleted, "deleted meanwhile": _deleted_meanwhile,
        "no journal": _no_journal, "full": _full, "database": _database,
    }  # fmt: skip
    for what, number in _TRIES.items():
        for _ in range(max(1, round(number * share))):
            yield tries[what](project, folder / "case", draw)
            free(folder / "case")


def _interrupted(project: Project, case: Path, draw: random.Random) -> tuple[Path, float]:
    """Return a project whose search was killed somewhere, and after which part of its time."""
    copy, part = project.copy("tune", case), draw.random()
    killed = command.start(STAGES["tune"], copy)
    time.sleep(part * project.seconds["tune"])
    with suppress(ProcessLookupError):
        killed.kill(signal.SIGKILL)
    killed.ended()
    return copy, part


def _finished(project: Project, copy: Path, name: str, *, said: str = "") -> Outcome:
    """Run the search again, and compare its result with that of an undisturbed one."""
    again = command.run(STAGES["tune"], copy)
    if again.is_traceback:
        return Outcome(NAME, name, "traceback", again.error)
    if again.code != 0:
        return Outcome(NAME, name, "wrong", f"again: exit code {again.code}, {again.line}")
    if problem := project.problem("tune", copy):
        return Outcome(NAME, name, "wrong", problem)
    failed = [trial for trial in _trials(copy) if ",failed," in trial]
    if failed:
        return Outcome(NAME, name, "wrong", f"a trial is used up: {failed[0][:200]}")
    return Outcome(NAME, name, "one line" if said else "right", said)


def _trials(copy: Path) -> list[str]:
    """Return the rows of the report's table of trials."""
    return [line for path in copy.glob("reports/tuning/**/trials.csv") for line in path.read_text().splitlines()]


def _killed(project: Project, case: Path, draw: random.Random) -> Outcome:
    copy, part = _interrupted(project, case, draw)
    return _finished(project, copy, f"killed at {part:.2f}")


def _torn(project: Project, case: Path, draw: random.Random) -> Outcome:
    """The last line of the journal of a killed search is half."""
    copy, part = _interrupted(project, case, draw)
    path = copy / _JOURNAL
    if path.exists() and (content := path.read_bytes()):
        last = content.rstrip(b"\n").rfind(b"\n") + 1
        path.write_bytes(content[: draw.randrange(last + 1, len(content) + 1)])
    return _finished(project, copy, f"killed at {part:.2f}, the journal's last line torn")


def _deleted(project: Project, case: Path, draw: random.Random) -> Outcome:
    """Between two runs of a search."""
    copy, part = _interrupted(project, case, draw)
    (copy / _JOURNAL).unlink(missing_ok=True)
    return _finished(project, copy, f"killed at {part:.2f}, the journal deleted")


def _deleted_meanwhile(project: Project, case: Path, draw: random.Random) -> Outcome:
    """While the search runs."""
    copy, part = project.copy("tune", case), 0.2 + 0.5 * draw.random()
    name = f"the journal deleted at {part:.2f}"
    running = command.start(STAGES["tune"], copy)
    time.sleep(part * project.seconds["tune"])
    (copy / _JOURNAL).unlink(missing_ok=True)
    ended = running.ended()
    if ended.is_traceback:
        return Outcome(NAME, name, "traceback", ended.error)
    if ended.code != 0 and (ended.line is None or "journal.log was deleted" not in ended.line):
        return Outcome(NAME, name, "wrong", f"exit code {ended.code}, {ended.line}")
    return _finished(project, copy, name, said=ended.line or "")


def _no_journal(project: Project, case: Path, draw: random.Random) -> Outcome:
    """Something else has the journal's name, or its middle is overwritten."""
    copy, _ = _interrupted(project, case, draw)
    path, junk = copy / _JOURNAL, draw.randbytes(draw.randrange(20, 300)) + b"\n" + draw.randbytes(20) + b"\n"
    content = path.read_bytes() if path.exists() else b""
    middle = len(content) // 2
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(draw.choice([junk, content[:middle] + junk + content[middle:]]))
    return _refused_then_moved(project, copy, path, f"{len(junk)} random bytes in the journal")


def _refused_then_moved(project: Project, copy: Path, path: Path, name: str) -> Outcome:
    """A search is refused in a line that names a file to move; when it is moved, the search ends well."""
    refused = command.run(STAGES["tune"], copy)
    if refused.is_traceback:
        return Outcome(NAME, name, "traceback", refused.error)
    if refused.line is None or str(path.name) not in refused.line:
        return Outcome(NAME, name, "wrong", f"exit code {refused.code}, {refused.line}")
    path.rename(path.with_name("moved"))
    return _finished(project, copy, name, said=refused.line)


def _full(project: Project, case: Path, draw: random.Random) -> Outcome:
    """The disk fills three times in the search, in the trials or in the journal, and has room in the end."""
    from benchmarks.chaos.disks import small_disk

    said = ""
    with small_disk(case) as disk:
        copy = project.copy("tune", disk.folder / "case")
        sizes = [int(400 * draw.random()) for _ in range(3)]
        name = f"{', '.join(map(str, sizes))} KiB left, in turn"
        for left_kib in sizes:
            ended = disk.run(STAGES["tune"], copy, left_kib)
            if ended.is_traceback:
                return Outcome(NAME, name, "traceback", ended.error)
            if ended.code != 0 and (ended.line is None or "can't write" not in ended.line):
                return Outcome(NAME, name, "wrong", f"exit code {ended.code}, {ended.line}")
            said = ended.line or said
        return _finished(project, copy, name, said=said)


def _database(project: Project, case: Path, draw: random.Random) -> Outcome:
    """`tune.storage` is no database, another program's, away, or silent."""
    copy = project.copy("tune", case)
    what = draw.choice(("text", "empty table", "away", "silent"))
    path = copy / "search.db"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if what == "away":
            silent.close()
        url = f"sqlite:///{path}" if what in ("text", "empty table") else f"postgresql://127.0.0.1:{port}/x"
        if what == "text":
            path.write_text("this is a text file\n" * 300)
        elif what == "empty table":
            path.write_bytes(b"SQLite format 3\0" + draw.randbytes(4000))
        params = yaml.safe_load((copy / "params.yaml").read_text())
        params["tune"]["storage"] = url
        (copy / "params.yaml").write_text(yaml.safe_dump(params))
        refused = command.run(STAGES["tune"], copy, environment={"PGCONNECT_TIMEOUT": "2"})
    name = f"tune.storage: {what}"
    if refused.is_traceback:
        return Outcome(NAME, name, "traceback", refused.error)
    if refused.line is None or "tune.storage" not in refused.line:
        return Outcome(NAME, name, "wrong", f"exit code {refused.code}, {refused.line}")
    del params["tune"]["storage"]
    (copy / "params.yaml").write_text(yaml.safe_dump(params))
    return _finished(project, copy, name, said=f"after {refused.seconds:.0f} s: {refused.line}")
