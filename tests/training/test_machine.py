"""Nothing rests on the machine that tests run on, and nothing is green because a service is absent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from segops.params.recipe import RecipeParams
from segops.training.process import resolve_precision
from tests.support.machine import sitecustomize
from tests.training.test_train import candidate, run, same

ASKS = "import torch; from segops.training.process import resolve_precision as r; print(r('auto', torch.device('cpu')))"


def test_bf16_is_faked_here_and_in_processes_of_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, expected in ("absent", "fp32"), ("native", "bf16"):
        monkeypatch.setenv(sitecustomize.BF16, answer)
        assert resolve_precision("auto", torch.device("cpu")) == expected
    there = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == "bf16"


def test_what_leaves_its_precision_to_the_processor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sitecustomize.BF16, "refused")
    with pytest.raises(AssertionError, match=r"rest on the processor: set recipe\.precision"):
        resolve_precision("auto", torch.device("cpu"))
    assert resolve_precision("bf16", torch.device("cpu")) == "bf16"


def test_auto_trains_the_bits_of_the_precision_that_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RecipeParams().precision == "auto"
    made: dict[str, Any] = {name: run(candidate(epochs=1, precision=name), tmp_path, name) for name in ("fp32", "bf16")}
    assert not same(made["fp32"].weights, made["bf16"].weights)
    for answer, expected in ("absent", "fp32"), ("native", "bf16"):
        monkeypatch.setenv(sitecustomize.BF16, answer)
        assert same(run(candidate(epochs=1, precision="auto"), tmp_path, answer).weights, made[expected].weights)


def test_a_skip_fails_where_services_are_required(root: Path, tmp_path: Path) -> None:
    test = "import pytest\n@pytest.mark.skipif(True, reason='needs a server')\ndef test_it(): pass\n"
    (tmp_path / "test_skipped.py").write_text(test)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_makereport\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    environment = {**os.environ, "SEGOPS_REQUIRE_SERVICES": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "needs a server (SEGOPS_REQUIRE_SERVICES is set)" in done.stdout


def test_actions_are_pinned_by_commit_and_what_is_slow_runs_with_its_services(root: Path) -> None:
    workflows = {path.name: path.read_text() for path in (root / ".github/workflows").glob("*.yml")}
    used = [line for text in workflows.values() for line in text.splitlines() if "uses:" in line]
    assert used
    assert [line for line in used if not re.search(r"uses: [\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$", line)] == []
    nightly = yaml.safe_load(workflows["everything.yml"])
    assert nightly[True]["schedule"], "YAML reads `on` as true"
    assert nightly["env"]["SEGOPS_REQUIRE_SERVICES"] == "1"
    assert nightly["jobs"]["services"]["strategy"]["matrix"]["bf16"] == ["absent", "native"]
    steps = [step.get("run", "") for step in nightly["jobs"]["services"]["steps"]]
    assert {"make test", "make test-slow"} <= set(steps)
