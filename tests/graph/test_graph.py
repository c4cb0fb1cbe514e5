"""dvc.yaml has DESIGN's graph, and each stage depends on its own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from segops.cli.common import CODE
from segops.commands.code import stage_names
from tests.support.checkout import ROOT

STAGES = ("ingest", "validate", "split", "prepare", "tune", "train", "evaluate", "register", "compare")


def _stage(name: str) -> dict[str, Any]:
    stage: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][name]
    inner: dict[str, Any] = stage.get("do", stage)
    return inner


def _paths(entries: list[Any]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def _outs(name: str) -> list[str]:
    stage = _stage(name)
    return [path for kind in ("outs", "metrics", "plots") for path in _paths(stage.get(kind, []))]


def test_dvc_yaml_has_the_nine_stages_and_the_one_that_hashes_their_code() -> None:
    assert list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]) == ["code", *STAGES]
    assert stage_names() == sorted(STAGES)


def test_every_stage_depends_on_its_own_code_and_on_no_other_stages() -> None:
    code = {name: [path for path in _paths(_stage(name)["deps"]) if path.startswith(f"{CODE}/")] for name in STAGES}
    assert code == {name: [f"{CODE}/{name}"] for name in STAGES}
    assert _outs("code") == [CODE.as_posix()]


def test_the_graph_is_seen_at_once() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert len(text.splitlines()) < 150
    assert text.count("src/") == 1, "what a stage's code depends on is derived"


def test_every_output_is_listed_by_one_stage() -> None:
    outs = [out for name in STAGES for out in _outs(name)]
    assert len(outs) == len(set(outs))


@pytest.mark.parametrize(
    ("upstream", "downstream"),
    [
        ("ingest", "validate"),
        ("ingest", "split"),
        ("validate", "split"),
        ("ingest", "prepare"),
        ("split", "prepare"),
        ("prepare", "tune"),
        ("prepare", "train"),
        ("tune", "train"),
        ("prepare", "evaluate"),
        ("train", "evaluate"),
        ("train", "register"),
        ("evaluate", "register"),
        ("evaluate", "compare"),
        ("register", "compare"),
    ],
)
def test_the_graph_has_the_edge(upstream: str, downstream: str) -> None:
    stage = _stage(downstream)
    deps = [
        *_paths(stage["deps"]),
        *(path for entry in stage.get("params", []) if isinstance(entry, dict) for path in entry),
    ]
    assert any(
        out == dep or out.startswith(f"{dep}/") or dep.startswith(f"{out}/") for out in _outs(upstream) for dep in deps
    )


def test_a_candidates_stages_run_over_the_candidates() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    looped = [name for name, stage in stages.items() if "foreach" in stage]
    assert looped == ["train", "evaluate", "register"]
    assert {stages[name]["foreach"] for name in looped} == {"${candidates}"}


def test_a_candidate_depends_on_its_own_params_alone() -> None:
    assert _paths(_stage("train")["params"]) == [
        "candidates.${key}",
        "models/tuned/best.yaml",
        "runtime.threads",
        "runtime.device",
        "runtime.devices",
    ]


def test_folders_named_in_dvc_yaml_are_the_command_lines_defaults() -> None:
    from segops.cli import common as cli

    outs = {out for name in STAGES for out in _outs(name)}
    for folder in (cli.DATASET, cli.VALIDATION, cli.SPLIT, cli.PREPARED, cli.TUNING, cli.COMPARISON):
        assert folder.as_posix() in outs
    assert (cli.TUNED / "best.yaml").as_posix() in outs
    for folder in (cli.MODELS, cli.REPORTS):
        assert any(Path(out).is_relative_to(folder / "${key}") for out in outs)
