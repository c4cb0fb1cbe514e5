"""A disk that fills: each stage on a small file system with a little space left, then again when there is more."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos import command
from benchmarks.chaos.command import Ended
from benchmarks.chaos.outcome import Outcome
from benchmarks.chaos.project import STAGES, Project, free

NAME = "disks"
_TRIES = {
    "ingest": 8, "validate": 5, "split": 7, "prepare": 7, "tune": 6, "train": 8, "evaluate": 8, "register": 6,
    "compare": 4, "predict": 6, "first store": 8,
}  # fmt: skip
_NEEDS_KIB = {
    "ingest": 200, "validate": 400, "split": 60, "prepare": 200, "tune": 400, "train": 150, "evaluate": 500,
    "register": 1500, "compare": 300, "predict": 40, "first store": 1000,
}  # fmt: skip
_DISK_MIB = 96


def run(folder: Path, share: float, seed: int) -> Iterator[Outcome]:
    """Yield what became of each: `one line` that names file and disk, and `right` where the space was enough."""
    draw = random.Random(seed)
    project = Project(folder / "project", upto="predict")
    for what, tries in _TRIES.items():
        for _ in range(max(1, round(tries * share))):
            left_kib = int(draw.random() ** 2 * _NEEDS_KIB[what])
            with small_disk(folder / "disk") as disk:
                yield _full(project, what, disk, left_kib)
            free(folder / "disk")


@dataclass(frozen=True)
class Disk:
    """A small disk; where none may be mounted, a folder in which processes may make no large file."""

    folder: Path
    mounted: bool

    def run(self, arguments: list[str], project: Path, left_kib: int) -> Ended:
        """Run a command in a project on the disk with so much left of it; afterwards there is room again."""
        filler = self.folder / "filler"
        if self.mounted:
            free_bytes = shutil.disk_usage(self.folder).free
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, free_bytes - left_kib * 1024))
        limit = None if self.mounted else _limit(left_kib)
        ended = command.run(arguments, project, environment=_elsewhere(), before=limit)
        filler.unlink(missing_ok=True)
        return ended


@contextmanager
def small_disk(place: Path) -> Iterator[Disk]:
    """Mount a small file system on a new folder."""
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(place)]
    mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield Disk(place, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def _full(project: Project, what: str, disk: Disk, left_kib: int) -> Outcome:
    """Run a stage with so little space, then with more."""
    stage = "ingest" if what == "first store" else what
    arguments = ["history"] if what == "first store" else STAGES[stage]
    name = f"{what}, {left_kib} KiB left"
    copy = project.copy(stage, disk.folder / "case")
    if what == "first store":
        (copy / "mlflow.db").unlink()
    first = disk.run(arguments, copy, left_kib)
    if first.is_traceback:
        return Outcome(NAME, name, "traceback", first.error)
    if first.code != 0 and (first.line is None or not _names(first, copy)):
        return Outcome(NAME, name, "wrong", f"exit code {first.code}: {first.line}")
    again = command.run(arguments, copy, environment=_elsewhere()) if first.code != 0 else first
    if again.code != 0 or again.is_traceback:
        return Outcome(NAME, name, "wrong", f"again, with space: exit code {again.code}, {again.said.strip()[-300:]}")
    problem = project.problem(stage, copy) if what != "first store" else None
    if problem is not None:
        return Outcome(NAME, name, "wrong", problem)
    return Outcome(NAME, name, "one line" if first.code else "right", first.line or "")


def _names(ended: Ended, project: Path) -> bool:
    """Tell whether a line names a file of the project, and says what its disk has left or that it is too large."""
    line = ended.line or ""
    names = str(project) in line or any(
        part in line for part in ("data/", "models/", "reports/", "masks/", ".segops/", "mlflow.db")
    )
    return names and (" left of " in line or "ulimit -f" in line)


def _limit(left_kib: int) -> Callable[[], None]:
    """Return what keeps a process from making a file larger than that, but for its log."""
    size = max(4, left_kib) * 1024
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _elsewhere() -> dict[str, str]:
    """Return the variable that keeps temporary files off the small disk."""
    return {"TMPDIR": tempfile.gettempdir()}
