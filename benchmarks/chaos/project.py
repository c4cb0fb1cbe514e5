"""A small project whose whole graph has run, copied for each fault, and what is compared with it afterwards."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks.chaos import command

CANDIDATE = "tiny"
STAGES: dict[str, list[str]] = {
    "ingest": ["ingest"],
    "validate": ["validate"],
    "split": ["split"],
    "prepare": ["prepare"],
    "tune": ["tune"],
    "train": ["train", CANDIDATE],
    "evaluate": ["evaluate", CANDIDATE],
    "register": ["register", CANDIDATE],
    "compare": ["compare"],
    "promote": ["promote", "1", "--yes"],
    "predict": ["predict", "--model", f"models/candidates/{CANDIDATE}", "pictures", "masks"],
}
_OUTPUTS = {
    "ingest": "data/dataset",
    "validate": "reports/validation",
    "split": "data/split",
    "prepare": "data/prepared",
    "tune": "models/tuned",
    "train": f"models/candidates/{CANDIDATE}",
    "evaluate": f"reports/candidates/{CANDIDATE}",
    "register": f"reports/candidates/{CANDIDATE}",
    "compare": "reports/comparison",
    "predict": "masks",
}
_PARAMS = {
    "ingest": {"source": "synthetic://nuclei?n=24&size=48&seed=3"},
    "split": {"fractions": [0.5, 0.25, 0.25], "seed": 9},
    "runtime": {"threads": 1, "device": "cpu"},
    "register": {"floors": {"dice": 0.0, "iou": 0.0}},
    "promote": {
        "min_test_dice": 0.0, "min_test_iou": 0.0, "min_groups": 2, "margin": 1.0, "subgroup_margin": 1.0,
    },
    "tune": {
        "pruner": "none", "confirm_seeds": 0,
        "searches": {
            CANDIDATE: {"trials": 3, "space": {"recipe.learning_rate": {"float": [0.0001, 0.1], "log": True}}}
        },
    },
    "candidates": {
        CANDIDATE: {
            "model": {"architecture": "unet", "base_filters": 2, "depth": 1},
            "input": {"size": 32},
            "recipe": {"epochs": 3, "batch_size": 4, "ema_decay": None, "precise_bn_images": None, "precision": "fp32"},
        }
    },
}  # fmt: skip
_FURTHER = ("run.json",)  # what isn't the same in two runs, by design


class Project:
    """The finished project, with a copy for each state: `before[STAGE]` has all that the stage needs, and no more."""

    def __init__(self, folder: Path, upto: str = "promote") -> None:
        self.folder = folder
        self.before: dict[str, Path] = {}
        self.seconds: dict[str, float] = {}
        self._expected: dict[str, dict[str, str]] = {}
        now = folder / "now"
        now.mkdir(parents=True)
        (now / "params.yaml").write_text(yaml.safe_dump(_PARAMS))
        _draw_pictures(now / "pictures")
        command.run(["history"], now)  # makes the store, which takes longer than a stage
        for stage, arguments in STAGES.items():
            self.before[stage] = Path(shutil.copytree(now, folder / f"before-{stage}"))
            done = command.run(arguments, now)
            if done.code != 0:
                raise RuntimeError(f"segops {stage} failed: {done.said}")
            self.seconds[stage] = done.seconds
            if stage in _OUTPUTS:
                self._expected[stage] = hashes(now / _OUTPUTS[stage])
            if stage == upto:
                break

    def copy(self, stage: str, into: Path) -> Path:
        """Copy the project as it is before a stage."""
        return Path(shutil.copytree(self.before[stage], into, symlinks=True))

    def problem(self, stage: str, project: Path) -> str | None:
        """Say what is wrong with a project after a stage; None: it is as it must be."""
        if left := left_overs(project):
            return f"left over: {', '.join(left)}"
        if stage in _OUTPUTS:
            found = hashes(project / _OUTPUTS[stage])
            expected = self._expected[stage]
            different = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            if different:
                return f"differs from an undisturbed run: {', '.join(different[:4])}"
        return (
            store_problem(project / "mlflow.db", promoted=stage == "promote")
            if stage in ("register", "promote")
            else None
        )


def _draw_pictures(folder: Path) -> None:
    """Write pictures to predict, in noise, whose masks don't pack to nothing."""
    folder.mkdir()
    drawn = np.random.default_rng(0).integers(0, 256, (12, 96, 96, 3), np.uint8)
    for number, picture_HWC in enumerate(drawn):
        Image.fromarray(picture_HWC).save(folder / f"{number}.png")


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of a folder's files by path, but of those that hold times and hosts."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in _FURTHER)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def left_overs(project: Path) -> list[str]:
    """List what an interrupted command left and nobody swept away."""
    endings = (".partial", ".lock", ".holder", ".earlier")
    found: Iterable[Path] = (path for path in project.rglob(".*") if path.name.endswith(endings))
    kept = (project / ".segops", project / ".mlflow.db.partial")
    return sorted(
        path.relative_to(project).as_posix() for path in found if not any(path.is_relative_to(place) for place in kept)
    )


def store_problem(database: Path, *, promoted: bool) -> str | None:
    """Say what a store has twice or not at all, after a registration and perhaps a promotion."""
    counts = {
        "runs": "SELECT count(*) FROM tags t JOIN runs r USING (run_uuid) WHERE t.key = 'segops.key' "
        "AND r.lifecycle_stage = 'active' AND r.run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'candidate')",
        "versions": "SELECT count(*) FROM model_versions WHERE current_stage != 'Deleted_Internal'",
        "models": "SELECT count(*) FROM logged_models WHERE lifecycle_stage = 'active'",
        "champions": "SELECT count(*) FROM registered_model_aliases WHERE alias = 'champion'",
        "decisions": "SELECT count(*) FROM tags t JOIN runs r USING (run_uuid) WHERE t.key = 'segops.decision.000' "
        "AND r.status = 'FINISHED' AND r.lifecycle_stage = 'active'",
    }
    expected = {"runs": 1, "versions": 1, "models": 1, "champions": int(promoted), "decisions": int(promoted)}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        found = {name: int(store.execute(query).fetchone()[0]) for name, query in counts.items()}
    different = [
        f"{found[name]} {name} instead of {number}" for name, number in expected.items() if found[name] != number
    ]
    return ", ".join(different) or None


def write_params(project: Path, **sections: object) -> None:
    """Change sections of a project's params.yaml."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(yaml.safe_dump(params | sections))


def free(folder: Path) -> None:
    """Remove a case's folder."""
    shutil.rmtree(folder, ignore_errors=True)
