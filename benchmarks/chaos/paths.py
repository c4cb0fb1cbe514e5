"""Paths that are not what a command wants: folders for files, files for folders, endless names, loops of links."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.chaos import command
from benchmarks.chaos.outcome import Outcome
from benchmarks.chaos.project import CANDIDATE, Project, free

NAME = "paths"
_LINES = 40  # of a command that is refused, progress included
_MODEL = f"models/candidates/{CANDIDATE}"
_COMMANDS = (
    "ingest --params {}", "ingest --dataset {}", "validate --dataset {}", "validate --report {}", "split --dataset {}",
    "split --report {}", "split --split {}", "prepare --dataset {}", "prepare --prepared {}",
    f"train {CANDIDATE} --prepared {{}}", f"train {CANDIDATE} --tuned {{}}", f"train {CANDIDATE} --model {{}}",
    f"evaluate {CANDIDATE} --model {{}}", f"evaluate {CANDIDATE} --report {{}}", "compare --comparison {}",
    "predict --model {} params.yaml out", f"predict --model {_MODEL} {{}} out",
    f"predict --model {_MODEL} params.yaml {{}}", f"drift --model {_MODEL} {{}}", "drift --reference {} data",
    "init {}", "init data --out {}", "keygen {}", "audit --report {}", "leaderboard --comparison {}",
)  # fmt: skip
_PATHS = {
    "a folder": "a_folder", "a full folder": "data", "a file": "a_file", "below a file": "a_file/x/y",
    "an endless name": "n" * 300, "an endless path": "/".join(["p" * 200] * 30), "missing": "none/at/all",
    "a loop of links": "loop", "a link to nothing": "dangling", "an empty name": "", "no text": "caf\udce9",
    "the folder itself": ".", "a device": "/dev/full", "a binary file": "junk",
}  # fmt: skip


def run(folder: Path, share: float, seed: int) -> Iterator[Outcome]:
    """Yield what became of each: `right` where a command could do with a path, else `one line`."""
    draw = random.Random(seed)
    project = Project(folder / "project", upto="compare")
    cases = [(arguments, kind) for arguments in _COMMANDS for kind in _PATHS]
    for arguments, kind in draw.sample(cases, max(1, round(len(cases) * share))):
        copy = Path(shutil.copytree(project.folder / "now", folder / "case"))
        _furnish(copy, draw)
        ended = command.run([word.format(_PATHS[kind]) for word in arguments.split(" ")], copy)
        name = f"{arguments.format('PATH')}: {kind}"
        usage = ended.code == 2 and "Error: " in ended.said
        if ended.is_traceback:
            yield Outcome(NAME, name, "traceback", ended.error)
        elif ended.code != 0 and not usage and (ended.line is None or len(ended.said.splitlines()) > _LINES):
            yield Outcome(NAME, name, "wrong", f"exit code {ended.code}: {ended.said.strip()[-300:]}")
        else:
            yield Outcome(NAME, name, "one line" if ended.code else "right", ended.line or "")
        free(folder / "case")


def _furnish(project: Path, draw: random.Random) -> None:
    """Make the files and folders that the paths name."""
    (project / "a_folder").mkdir()
    (project / "a_file").write_text("text\n")
    (project / "junk").write_bytes(draw.randbytes(500))
    (project / "loop").symlink_to("loop")
    (project / "dangling").symlink_to("nowhere")
