"""A run's size where Kubeflow keeps it, and the key under which its cache keeps a step's outputs."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import components
from pipelines.overrides import override
from pipelines.training_pipeline import arguments
from pipelines.versions import code_version
from segops.params.project import Params, load_params
from tests.support.argo_status import params_bytes, status_bytes

CODE = {"code": "c" * 32}


@pytest.fixture(scope="module")
def params(root: Path) -> Params:
    return load_params(root / "params.yaml")


@pytest.fixture(scope="module")
def documents(root: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((root / "pipelines" / "segops-training.yaml").read_text()))


def of_candidates(params: Params, count: int) -> dict[str, Any]:
    """A run's arguments with so many candidates, as those of params.yaml."""
    known = list(params.candidates.values())
    names = [*params.candidates, *(f"other_{number}" for number in range(count))][:count]
    several = {name: known[number % len(known)] for number, name in enumerate(names)}
    return arguments(params.model_copy(update={"candidates": several})) | CODE


def test_a_step_is_given_at_most_a_kilobyte_of_params(params: Params, documents: list[dict[str, Any]]) -> None:
    sizes = params_bytes(documents, of_candidates(params, 2))
    assert sizes["train"] < 400
    assert max(size for step, size in sizes.items() if step != "source-state") < 1000  # it names all that a run reads


@pytest.mark.parametrize(("candidates", "most"), [(2, 700_000), (8, 1_800_000), (20, 4_000_000)])
def test_a_run_stays_small(candidates: int, most: int, params: Params, documents: list[dict[str, Any]]) -> None:
    assert status_bytes(documents, of_candidates(params, candidates)) < most


def cache_key(documents: list[dict[str, Any]], step: str, values: dict[str, Any], artifacts: dict[str, str]) -> str:
    """The key of a step's outputs, as Kubeflow makes it (backend/src/v2/cacheutils, `GenerateCacheKey`): names of the
    artifacts that come in, values of the params, definitions of the outputs, image, and command with arguments."""
    spec = documents[0]
    component = spec["components"][f"comp-{step}"]
    container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    key = {
        "inputArtifactNames": artifacts,
        "inputParameterValues": values,
        "outputArtifactsSpec": component.get("outputDefinitions", {}).get("artifacts", {}),
        "containerSpec": {"image": container["image"], "cmdArgs": [*container["command"], *container["args"]]},
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def test_equal_params_and_an_equal_source_have_one_key(params: Params, documents: list[dict[str, Any]]) -> None:
    def key(data: str, *changes: str) -> str:
        given = arguments(override(params, list(changes)))
        return cache_key(documents, "ingest", {"params": given["ingest"], "data": data, **CODE}, {})

    assert key("state-1") == key("state-1", "ingest.shard_mib=256", "split.seed=9")
    others = [key("state-2"), key("state-1", "ingest.shard_mib=255"), key("state-1", "ingest.name=other")]
    assert len({key("state-1"), *others}) == 4


def test_a_recipes_key_is_its_candidates_alone(params: Params, documents: list[dict[str, Any]]) -> None:
    def keys(*changes: str) -> dict[str, str]:
        given = arguments(override(params, list(changes)))
        common = {"runtime": given["runtime"], "tracking": given["tracking"], **CODE}
        inputs = {"prepared": "prepared-1", "tuned": "tuned-1"}
        return {
            item["candidate"]: cache_key(documents, "train", {**item, **common}, inputs) for item in given["candidates"]
        }

    one, other = keys(), keys("candidates.unet.recipe.epochs=7")
    assert one["resunet"] == other["resunet"]
    assert one["unet"] != other["unet"]


def test_a_components_own_source_is_in_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "components"
    shutil.copytree(Path(components.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(components, "__file__", str(folder / "__init__.py"))
    before = code_version()

    def changed(name: str) -> str:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b"\n# changed\n")
        version = code_version()
        (folder / name).write_bytes(content)
        return version

    in_a_step = ["train/component.py", "validate/component.py", "train/__init__.py", "__main__.py", "step.py"]
    assert len({before, *map(changed, in_a_step)}) == 6
    others = ["train/tests/test_component.py", "train/README.md", "readmes.py", "conftest.py"]
    assert {changed(name) for name in others} == {before}


def test_a_pipeline_holds_no_source_and_a_component_alone_starts_as_in_it(documents: list[dict[str, Any]]) -> None:
    executors = documents[0]["deploymentSpec"]["executors"]
    for name, executor in executors.items():
        step = name.removeprefix("exec-").replace("-", "_")
        component = getattr(importlib.import_module(f"components.{step}"), step)
        alone = component.component_spec.implementation.container
        container = executor["container"]
        assert container["command"] == alone.command
        assert container["args"] == ["--executor_input", "{{$}}", "--function_to_execute", step]


def test_only_what_asks_or_changes_a_server_is_never_cached(root: Path) -> None:
    never = {
        "segops-training": {"source-state", "register", "compare", "report-status"},
        "segops-batch-inference": {"batch-state", "report-status"},
    }
    for pipeline, steps in never.items():
        spec = next(yaml.safe_load_all((root / "pipelines" / f"{pipeline}.yaml").read_text()))
        dags = [one["dag"]["tasks"] for one in (*spec["components"].values(), spec["root"]) if "dag" in one]
        cached = {name: bool(task.get("cachingOptions")) for dag in dags for name, task in dag.items()}
        executed = {name for name in cached if f"exec-{name}" in spec["deploymentSpec"]["executors"]}
        assert {name for name in executed if not cached[name]} == steps, pipeline
