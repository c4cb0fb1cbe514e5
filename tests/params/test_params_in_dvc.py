"""What DVC sees of a params.yaml that leaves defaults out: a changed param and a new one mark the stages that read it.

The stages of dvc.yaml run here with their params, loops and names, and do nothing but write a file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.checkout import ROOT


def _without_work(stage: dict[str, Any], name: str) -> dict[str, Any]:
    inner = stage.get("do", stage)
    out = f"outs/{name}" + ("-${key}" if "foreach" in stage else "")
    quick = {"cmd": f"touch {out}", "params": inner.get("params", []), "outs": [out]}
    return {"foreach": stage["foreach"], "do": quick} if "foreach" in stage else quick


def _dvc(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DVC")}
    environment |= {"DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project's params.yaml in which all stages ran."""
    folder = tmp_path_factory.mktemp("dvc")
    (folder / "outs").mkdir()
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    quick = {name: _without_work(stage, name) for name, stage in stages.items()}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": quick}))
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    (folder / "models/tuned").mkdir(parents=True)
    (folder / "models/tuned/best.yaml").write_text("{resunet: {}, unet: {}, otsu: {}}")
    assert _dvc(folder, "init", "--no-scm", "-q").returncode == 0
    done = _dvc(folder, "repro", "-q")
    assert done.returncode == 0, done.stderr
    return folder


def _changed(folder: Path) -> set[str]:
    """The stages that `dvc status` names."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        return {address.rpartition("dvc.yaml:")[2] for address in repo.status()}


def _edit(folder: Path, path: str, value: Any) -> None:
    """Write a param; `path` is dotted."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    *parents, last = path.split(".")
    section = params
    for name in parents:
        section = section.setdefault(name, {})
    section[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def _of_each_candidate(*stages: str) -> set[str]:
    return {f"{stage}@{name}" for stage in stages for name in ("resunet", "unet", "otsu")}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("split.seed", 1, {"split"}),
        ("validate.max_group_share", 0.4, {"validate"}),  # left out of the file, as the three below
        ("candidates.unet.recipe.weight_decay", 0.1, {"tune", "train@unet", "compare"}),
        ("compare.confidence", 0.9, {"compare"}),
        ("kubeflow.retries", 3, set()),
        ("runtime.device", "cpu", {"tune", *_of_each_candidate("train", "evaluate")}),
        ("register.floors.dice", 0.1, _of_each_candidate("register")),
    ],
)
def test_a_changed_param_and_a_new_one_mark_the_stages_that_read_it(
    ran: Path, path: str, value: Any, expected: set[str]
) -> None:
    _edit(ran, path, value)
    assert _changed(ran) == expected


def test_dvc_repro_would_run_what_a_new_param_marks(ran: Path) -> None:
    _edit(ran, "candidates.unet.recipe.weight_decay", 0.1)
    done = _dvc(ran, "repro", "--dry")
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"Running stage '([^']+)'", done.stdout)) == {"tune", "train@unet", "compare"}


def test_other_comments_change_nothing(ran: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    (ran / "params.yaml").write_text("\n".join(line.partition("  #")[0] for line in text.splitlines()) + "\n")
    assert _changed(ran) == set()


def test_a_section_that_dvc_yaml_names_is_asked_for_in_one_line(ran: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    del params["compare"]
    (ran / "params.yaml").write_text(yaml.safe_dump(params))
    done = _dvc(ran, "repro", "compare")
    assert done.returncode != 0
    assert "ERROR: failed to reproduce 'compare': Parameters 'compare' are missing from 'params.yaml'." in done.stderr


def _named(stage: dict[str, Any]) -> list[str]:
    params = stage.get("do", stage).get("params", [])
    return [path for path in params if isinstance(path, str) and "${" not in path]


@pytest.mark.parametrize(
    "file", ["params.yaml", *(f"benchmarks/{path.name}" for path in sorted((ROOT / "benchmarks").glob("*.yaml")))]
)
def test_a_file_for_dvc_holds_each_param_that_dvc_yaml_names(file: str) -> None:
    params = yaml.safe_load((ROOT / file).read_text())
    stages: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    named = {path for stage in stages.values() for path in _named(stage)}
    assert len(named) > 10
    for path in named:
        section, _, name = path.partition(".")
        assert section in params, f"{file}: write `{section}: {{}}`; dvc.yaml names it"
        assert not name or name in params[section], f"{file}: write {path}; dvc.yaml names it"
