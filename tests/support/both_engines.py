"""The graph by `dvc repro` in a checkout of its own, and by Kubeflow's local runner, whose outputs must be the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.checkout import ROOT

_GIVEN = ("dvc.yaml", ".dvcignore", ".gitignore")
_CODE = ("src", "components", "pipelines")
# What isn't decided by the inputs: numbers of versions, links to galleries, and on the page measured times.
_NOT_DECIDED = (
    rb'"version": \d+',
    rb"(?<=,True,)\d+",
    rb"<a [^>]*>|</a>",
    rb'<span class="version">\d+</span>',
    rb'<td class="(number )?measured">[^<]*</td>',
)
_FOLDERS = {
    "data/dataset": "ingest/dataset",
    "reports/validation": "validate/report",
    "data/split": "split/split",
    "data/prepared": "prepare/prepared",
    "models/tuned": "tune/tuned",
    "reports/tuning": "tune/report",
    "reports/comparison": "compare/comparison",
}


def run(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a checkout, on the checkout's own code and without this machine's stores and settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC", "MLFLOW", "GIT"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        "PYTHONPATH": str(folder / "src"),  # the checkout's own code, not the one that tests run
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.org",
        **more,
    }
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)


def check_out(folder: Path, params: Mapping[str, Any]) -> Path:
    """Make a repository of the project's code with these params; return its folder."""
    folder.mkdir(exist_ok=True)
    for name in _GIVEN:
        shutil.copy(ROOT / name, folder / name)
    for name in _CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / "params.yaml").write_text(yaml.safe_dump(dict(params)))
    for command in (("git", "init", "-q"), ("dvc", "init", "-q"), ("git", "add", "-A"), ("git", "commit", "-qm", "x")):
        assert run(folder, *command).returncode == 0, command
    return folder


def repro(folder: Path) -> set[str]:
    """Run `dvc repro` and return the stages that ran."""
    done = run(folder, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"Running stage '([^']+)'", done.stdout))


def run_pipeline(folder: Path, root: Path) -> Path:
    """Run the pipeline of a checkout locally, with stores of its own below `root`; return the folder of its steps."""
    stores = {"DVC_ROOT": str(root)}  # checkpoints, caches and MLflow's store: nothing is taken over
    # Nor is that folder a git repository: steps know the commit as an image without git does.
    commit = run(folder, "git", "rev-parse", "HEAD").stdout.strip()
    stores |= {"SEGOPS_GIT_COMMIT": commit, "SEGOPS_GIT_DIRTY": "false"}
    done = run(folder, sys.executable, "-m", "pipelines", "run-local", "--root", str(root / "out"), **stores)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    (steps,) = (root / "out").iterdir()
    return steps


def check_same_outputs(project: Path, steps: Path, candidates: int) -> None:
    """Check that each stage's folder in a checkout that DVC ran holds what the pipeline's step wrote."""
    folders = dict(_FOLDERS)
    for local, written_by in _FOLDERS.items():
        step, _, output = written_by.partition("/")
        if (steps / f"{step}-join").is_dir():  # ranges of it had pods of their own
            folders[local] = f"{step}-join/{output}"
    for model in steps.glob("for-loop-*/train/model"):
        name = json.loads((model / "model.json").read_text())["candidate"]
        step = model.parents[1].relative_to(steps).as_posix()
        folders[f"models/candidates/{name}"] = f"{step}/train/model"
        folders[f"reports/candidates/{name}"] = f"{step}/evaluate/report"
        card = project / "reports/candidates" / name / "model_card.md"  # register's, not evaluate's
        assert card.read_bytes() == (steps / step / "register/registered/model_card.md").read_bytes()
    assert len(folders) == len(_FOLDERS) + 2 * candidates
    for local, step in folders.items():
        expected, written = _decided(project / local), _decided(steps / step)
        others = sorted(name for name in expected if expected[name] != written.get(name))
        assert not others, f"{local}: {others}"
        assert set(written) == set(expected), local


def _decided(folder: Path) -> dict[str, bytes]:
    """Return what a stage decides, by file: without run.json, and without what register adds to evaluate's folder."""
    added = {"run.json", "registration.json", "model_card.md"}
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: _content(path) for name, path in files.items() if name not in added}


def _content(path: Path) -> bytes:
    """Return a file's bytes, without what isn't decided."""
    content = path.read_bytes()
    if path.name in ("comparison.json", "leaderboard.csv", "index.html"):
        for pattern in _NOT_DECIDED:
            content = re.sub(pattern, b"", content)
    return content
