"""dvc.yaml names the source modules that each stage imports, and DESIGN's graph."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

# tune and train tell MLflow how they go, and fetch published weights by their hash, which params hold: neither what
# MLflow is told nor the way of a file can change weights, so they aren't dependencies of them.
WITHOUT_INFLUENCE: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("tune", "train"), ("segops.tracking", "segops.data.weights")
)
ROOT = Path(__file__).resolve().parents[1]
STAGES = ("ingest", "validate", "split", "prepare", "tune", "train", "evaluate", "register", "compare")


@cache
def _imports() -> grimp.ImportGraph:
    return grimp.build_graph("segops", exclude_type_checking_imports=True, cache_dir=None)


def _stage(name: str) -> dict[str, Any]:
    stage: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][name]
    inner: dict[str, Any] = stage.get("do", stage)
    return inner


def _paths(entries: list[Any]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def _outs(name: str) -> list[str]:
    stage = _stage(name)
    return [path for kind in ("outs", "metrics", "plots") for path in _paths(stage.get(kind, []))]


def _module(path: str) -> str:
    return path.removeprefix("src/").removesuffix(".py").replace("/", ".")


@pytest.mark.parametrize("name", STAGES)
def test_code_dependencies_are_those_of_the_import_graph(name: str) -> None:
    listed = {_module(path) for path in _paths(_stage(name)["deps"]) if path.startswith("src/")}
    graph, root = _imports(), f"segops.stages.{name}"
    without_influence = WITHOUT_INFLUENCE.get(name, ())
    imported = {root}
    waiting = [root]
    while waiting:
        for found in graph.find_modules_directly_imported_by(waiting.pop()) - imported:
            if not found.startswith(without_influence):
                imported.add(found)
                waiting.append(found)
    if "segops.reports.template_files" in imported:
        imported.add("segops.reports.templates.style")  # any file of that folder
    imported = {module for module in imported if not (ROOT / "src" / module.replace(".", "/")).is_dir()}
    covered = {module: [one for one in listed if module == one or module.startswith(f"{one}.")] for module in imported}
    assert sorted(module for module, by in covered.items() if not by) == [], "missing from deps"
    assert sorted(listed - {one for by in covered.values() for one in by}) == [], "listed, but not imported"


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
    deps = [*_paths(stage["deps"]), *(path for one in stage.get("params", []) if isinstance(one, dict) for path in one)]
    assert any(
        out == dep or out.startswith(f"{dep}/") or dep.startswith(f"{out}/") for out in _outs(upstream) for dep in deps
    )


def test_a_candidates_stages_run_over_the_candidates() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    looped = [name for name, stage in stages.items() if "foreach" in stage]
    assert looped == ["train", "evaluate", "register"]
    assert {stages[name]["foreach"] for name in looped} == {"${candidates}"}


RUNTIME = ("runtime.threads", "runtime.device", "runtime.devices")


def test_a_candidate_depends_on_its_own_params_alone() -> None:
    assert _paths(_stage("train")["params"]) == [
        "candidates.${key}",
        "models/tuned/best.yaml",
        *(f"runtime.{one}" for one in ("threads", "device", "devices")),
    ]


def test_folders_named_in_dvc_yaml_are_the_command_lines_defaults() -> None:
    from segops.cli import common as cli

    outs = {out for name in STAGES for out in _outs(name)}
    for folder in (cli.DATASET, cli.VALIDATION, cli.SPLIT, cli.PREPARED, cli.TUNING, cli.COMPARISON):
        assert folder.as_posix() in outs
    assert (cli.TUNED / "best.yaml").as_posix() in outs
    for folder in (cli.MODELS, cli.REPORTS):
        assert any(Path(out).is_relative_to(folder / "${key}") for out in outs)
