"""The graph on volumes in both engines: slices and patches, the same bytes at every stage."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.graph.test_repro import _content, _files, _repro, _run
from tests.support.checkout import ROOT
from tests.support.volume_runs import SLICES, VOLUMES, project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]  # twice twelve stages, each a process


def test_dvc_and_kubeflow_give_the_same_bytes_of_volumes(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("src", "components", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    params = project().model_dump(mode="json", by_alias=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"candidates": {"slices": SLICES, "volumes": VOLUMES}}))
    for command in (("git", "init", "-q"), ("dvc", "init", "-q"), ("git", "add", "-A"), ("git", "commit", "-qm", "x")):
        assert _run(folder, *command).returncode == 0, command
    ran = _repro(folder)
    assert {"train@slices", "train@volumes", "compare"} <= ran
    assert _repro(folder) == set()

    stores = {"DVC_ROOT": str(tmp_path)}
    done = _run(folder, sys.executable, "-m", "pipelines", "run-local", "--root", str(tmp_path / "out"), **stores)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    (made,) = (tmp_path / "out").iterdir()
    pairs = {
        "data/dataset": "ingest/dataset",
        "reports/validation": "validate/report",
        "data/split": "split/split",
        "data/prepared": "prepare/prepared",
        "reports/comparison": "compare/comparison",
    }
    for model in made.glob("for-loop-*/train/model"):
        name = json.loads((model / "model.json").read_text())["candidate"]
        steps = model.parents[1].relative_to(made).as_posix()
        pairs[f"models/candidates/{name}"] = f"{steps}/train/model"
        pairs[f"reports/candidates/{name}"] = f"{steps}/evaluate/report"
    assert len(pairs) == 9
    for local, kubeflow in pairs.items():
        found = {name: _content(made / kubeflow / name) for name in _files(made / kubeflow)}
        expected = {name: _content(folder / local / name) for name in _files(folder / local)}
        assert {name for name in expected if expected[name] != found.get(name)} == set(), local
        assert set(found) == set(expected), local
