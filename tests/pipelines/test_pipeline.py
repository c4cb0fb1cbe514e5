"""The Kubeflow pipeline: the same graph as dvc.yaml, compiled to the same bytes each time."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compiled import compile_pipeline
from pipelines.overrides import override
from pipelines.training_pipeline import SECTIONS, arguments
from segops.errors import UserError
from segops.params.candidate import CandidateParams
from segops.params.compact import from_text
from segops.params.project import Params, load_params
from tests.support.pipeline_graphs import REPORTING_PARAMS, dvc_graph, kfp_graph


@pytest.fixture(scope="module")
def params(root: Path) -> Params:
    return load_params(root / "params.yaml")


@pytest.fixture(scope="module")
def compiled(params: Params) -> str:
    return compile_pipeline(params)


@pytest.fixture(scope="module")
def documents(compiled: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(compiled))


@pytest.fixture(scope="module")
def dvc(root: Path) -> dict[str, Any]:
    text: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text())
    return text


def test_both_engines_have_the_same_graph(documents: list[dict[str, Any]], dvc: dict[str, Any]) -> None:
    kubeflow, local = kfp_graph(documents[0]), dvc_graph(dvc)
    assert kubeflow.stages == local.stages
    assert kubeflow.edges == local.edges
    assert kubeflow.looped == local.looped == {"train", "evaluate", "register"}
    assert kubeflow.params - REPORTING_PARAMS == local.params


def test_shards_in_pods_of_their_own_are_the_same_graph(params: Params, dvc: dict[str, Any]) -> None:
    spec = next(yaml.safe_load_all(compile_pipeline(override(params, ["kubeflow.shards_at_once=3"]))))
    kubeflow, local = kfp_graph(spec), dvc_graph(dvc)
    assert (kubeflow.stages, kubeflow.edges, kubeflow.looped) == (local.stages, local.edges, local.looped)
    assert kubeflow.params - REPORTING_PARAMS == local.params
    (outer,) = [one for one in spec["components"].values() if "prepare-join" in one.get("dag", {}).get("tasks", {})]
    loops = [
        task for task in outer["dag"]["tasks"].values() if task.get("iteratorPolicy", {}).get("parallelismLimit") == 3
    ]
    assert [loop["parameterIterator"]["items"]["raw"] for loop in loops] == ["[0, 1, 2]"] * 3


def test_one_shard_at_once_is_the_single_step(params: Params, compiled: str) -> None:
    assert compile_pipeline(override(params, ["kubeflow.shards_at_once=1"])) == compiled


def test_a_search_with_pods_of_its_own_is_the_same_graph(params: Params, dvc: dict[str, Any]) -> None:
    several = override(
        params,
        ["tune.workers=3", "tune.storage=postgresql:///", "kubeflow.tune_secret=segops-optuna"],
    )
    spec, platform = yaml.safe_load_all(compile_pipeline(several))
    kubeflow, local = kfp_graph(spec), dvc_graph(dvc)
    assert (kubeflow.stages, kubeflow.edges, kubeflow.looped) == (local.stages, local.edges, local.looped)
    assert kubeflow.params - REPORTING_PARAMS == local.params
    (outer,) = [one for one in spec["components"].values() if "tune-start" in one.get("dag", {}).get("tasks", {})]
    (loop,) = [
        name
        for name, one in outer["dag"]["tasks"].items()
        if one.get("iteratorPolicy", {}).get("parallelismLimit") == 3
    ]
    assert outer["dag"]["tasks"][loop]["parameterIterator"]["items"]["raw"] == "[0, 1, 2]"
    assert "tune-start" in outer["dag"]["tasks"][loop]["dependentTasks"]
    assert loop in outer["dag"]["tasks"]["tune"]["dependentTasks"]
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for step in ("tune", "tune-start", "tune-worker"):
        assert "segops-optuna" in [one["secretName"] for one in pods[f"exec-{step}"]["secretAsEnv"]]
    assert "secretAsEnv" not in pods["exec-train"]


def test_only_ingest_sees_the_key_of_patients(params: Params) -> None:
    _, platform = yaml.safe_load_all(compile_pipeline(override(params, ["kubeflow.patient_secret=segops-patients"])))
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    seen = [name for name, pod in pods.items() if "segops-patients" in json.dumps(pod)]
    assert seen == ["exec-ingest"]
    assert pods["exec-ingest"]["secretAsEnv"][-1]["keyToEnv"] == [
        {"envVar": "SEGOPS_PATIENT_KEY", "secretKey": "SEGOPS_PATIENT_KEY"}
    ]


def test_training_on_several_nodes_is_the_same_graph(params: Params, dvc: dict[str, Any]) -> None:
    several = override(
        params,
        [
            "kubeflow.train={kind: trainjob, nodes: 2, queue: segops}",
            "kubeflow.volume=checkpoints",
            "runtime.devices=2",
        ],
    )
    spec, platform = yaml.safe_load_all(compile_pipeline(several))
    executor = spec["deploymentSpec"]["executors"]["exec-train-job"]["container"]
    assert executor["resources"]["resourceMemoryRequest"] == "1Gi"  # it waits; the nodes train
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert pods["exec-train-job"]["pvcMount"][0]["mountPath"] == "/segops"
    renamed = yaml.safe_load(yaml.safe_dump(spec).replace("train-job", "train"))
    kubeflow, local = kfp_graph(renamed), dvc_graph(dvc)
    assert (kubeflow.stages, kubeflow.edges, kubeflow.looped) == (local.stages, local.edges, local.looped)


def test_each_edge_and_param_matters_to_that_comparison(documents: list[dict[str, Any]], dvc: dict[str, Any]) -> None:
    whole = dvc_graph(dvc)
    for name in dvc["stages"].keys() - {"code"}:
        for kind in ("deps", "params"):
            changed = copy.deepcopy(dvc)
            stage = changed["stages"][name].get("do", changed["stages"][name])
            for entry in [path for path in stage.get(kind, []) if not str(path).startswith(".segops/code")]:
                kept = stage[kind]
                stage[kind] = [one for one in kept if _head(one) != _head(entry)]
                if kind == "params":
                    stage[kind] = [one for one in kept if _section(one) != _section(entry)]
                assert dvc_graph(changed) != whole, (name, entry)
                stage[kind] = kept
    spec = copy.deepcopy(documents[0])
    (inner,) = [one for one in spec["components"].values() if "split" in one.get("dag", {}).get("tasks", {})]
    del inner["dag"]["tasks"]["split"]["inputs"]["artifacts"]["report"]
    assert ("validate", "split") not in kfp_graph(spec).edges


def _head(entry: Any) -> list[str]:
    return str(entry).split("/")[:2]


def _section(entry: Any) -> str:
    return str(next(iter(entry)) if isinstance(entry, dict) else entry.split(".")[0])


def test_the_loop_runs_over_the_candidates_of_params(documents: list[dict[str, Any]], params: Params) -> None:
    items = documents[0]["root"]["inputDefinitions"]["parameters"]["candidates"]["defaultValue"]
    assert [item["candidate"] for item in items] == list(params.candidates)
    for item in items:
        assert from_text(CandidateParams, item["recipe"]) == params.candidates[item["candidate"]]


def test_arguments_keep_each_value_and_the_order_of_classes(params: Params) -> None:
    given = arguments(params)
    assert set(given) == {*SECTIONS, "candidates"}
    again = {name: yaml.safe_load(given[name]) for name in SECTIONS}
    recipes = {item["candidate"]: yaml.safe_load(item["recipe"]) for item in given["candidates"]}
    read = Params.model_validate({**again, "candidates": recipes})
    others = ("promote", "export", "drift", "batch", "kubeflow")
    assert read.model_copy(update={name: getattr(params, name) for name in others}) == params
    assert next(iter(yaml.safe_load(given["ingest"])["mask_values"].values())) == "background"


def test_the_compiled_file_is_the_present_one(root: Path, compiled: str) -> None:
    assert compiled == (root / "pipelines" / "segops-training.yaml").read_text()


def test_no_step_installs_anything_and_steps_run_where_params_say(params: Params) -> None:
    gpu = "{accelerator: nvidia.com/gpu, accelerators: 2, node_selector: {pool: a}}"
    changed = override(
        params,
        [
            "kubeflow.train_image=registry/train@sha256:" + 64 * "1",
            "kubeflow.train_profile=gpu",
            f"kubeflow.profiles={{cpu: {{}}, gpu: {gpu}}}",
            "kubeflow.volume=checkpoints",
            "kubeflow.s3_secret=s3-keys",
            "kubeflow.lakefs_secret=lakefs-keys",
        ],
    )
    text = compile_pipeline(changed)
    assert "pip install" not in text
    spec, platform = yaml.safe_load_all(text)
    executors = spec["deploymentSpec"]["executors"]
    train, ingest = (executors[f"exec-{name}"]["container"] for name in ("train", "ingest"))
    assert train["image"] == "registry/train@sha256:" + 64 * "1"
    assert ingest["image"] == params.kubeflow.data_image
    assert train["resources"]["accelerator"]["resourceCount"] == "2"
    assert "accelerator" not in ingest["resources"]
    assert {"name": "DVC_ROOT", "value": "/segops"} in train["env"]
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert pods["exec-train"]["nodeSelector"] == {"labels": {"pool": "a"}}
    assert pods["exec-train"]["pvcMount"][0]["mountPath"] == "/segops"
    assert "pvcMount" not in pods["exec-ingest"]
    asked = {name: executors[f"exec-{name}"]["container"]["resources"] for name in ("register", "report-status")}
    assert {one["resourceCpuRequest"] for one in asked.values()} == {"100m"}
    assert {one["resourceMemoryRequest"] for one in asked.values()} == {"1Gi"}
    assert [secret["secretName"] for secret in pods["exec-ingest"]["secretAsEnv"]] == ["s3-keys", "lakefs-keys"]


def test_what_changes_the_registry_is_never_cached(documents: list[dict[str, Any]]) -> None:
    cached = {}
    for component in documents[0]["components"].values():
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            cached[name] = task.get("cachingOptions", {}).get("enableCache", False)
    never = {name for name in cached if not cached[name] and not name.startswith(("for-loop", "condition"))}
    assert never == {"source-state", "register", "compare"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("split.sed=3", "--set split.sed: there is no 'sed'; did you mean 'seed'?"),
        ("split.seed", "--set split.seed: write it as section.param=value"),
        ("split.seed=many", "--set: 'split.seed' = 'many': Input should be a valid integer"),
        ("candidates.resunet.recipe.epochs=0", "'candidates.resunet.recipe.epochs' = 0"),
        ("kubeflow.train_profile=gpu", "no profile 'gpu'; kubeflow.profiles has light, cpu"),
        ("kubeflow.profiles={cpu: {cpu: 500m, cpu_request: '1'}}", "cpu_request 1 is more than cpu 500m"),
        ("kubeflow.train_image=Segops Train", "'kubeflow.train_image' = 'Segops Train': no name of an image; write"),
        ("kubeflow.train_image=segops/train@sha256:abc", "'kubeflow.train_image'"),
        ("kubeflow.s3_secret=S3_Keys", "'kubeflow.s3_secret' = 'S3_Keys': no name of a Kubernetes object"),
        ("kubeflow.train={kind: trainjob}", "train.kind trainjob needs a volume that all nodes mount"),
        ("kubeflow={volume: v, train: {kind: trainjob, nodes: 3}}", "runtime.devices is 1; set it to 3"),
        ("kubeflow.environment={AWS_SECRET_ACCESS_KEY: x}", "put it into a Kubernetes secret"),
    ],
)
def test_a_change_that_cannot_be_is_refused(change: str, text: str, params: Params) -> None:
    with pytest.raises(UserError) as error:
        override(params, [change])
    assert text in str(error.value)
    assert "\n" not in str(error.value)
