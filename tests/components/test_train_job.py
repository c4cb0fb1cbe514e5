"""The step that trains on several nodes, before a double of Kubernetes whose nodes are real processes."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from components.train_job.on_nodes import train_on_nodes
from components.train_job.trainjob import QUEUE_LABEL, JobRunner
from segops.contracts.tuned import Tuned
from segops.errors import TryAgainError, UserError
from segops.params.compact import as_text
from segops.params.kubeflow import KubeflowParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.train import train
from tests.support.mlflow_server import AWAY
from tests.support.tiny_prepared import write_prepared
from tests.support.trainer_api import NAMESPACE, Cluster, trainer_api
from tests.training.test_train import UNET, candidate

SMALL = candidate(UNET | {"dropout_bottleneck": 0.0}, epochs=2, batch_size=4)
ON = KubeflowParams.model_validate(
    {
        "volume": "segops-checkpoints",
        "train": {"kind": "trainjob", "nodes": 2, "queue": "segops"},
        "train_profile": "node",
        "data_profile": "light",
        "profiles": {"node": {"cpu": "1", "memory": "2Gi", "node_selector": {"pool": "train"}}},
    }
)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "volume"))
    monkeypatch.setenv("SEGOPS_ENGINE", "kfp")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = str(Path(__file__).parents[2])
    with trainer_api(tmp_path, {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}, port) as double:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        write_prepared(tmp_path / "prepared")
        (tmp_path / "tuned").mkdir()
        Tuned(candidates={"tiny_one": None}).save(tmp_path / "tuned")
        yield double


def run(root: Path, *, devices: int = 2, recipe: Any = SMALL, away_s: float = 5.0) -> Any:
    texts = {
        "candidate": "tiny_one",
        "recipe": as_text(recipe),
        "runtime": as_text(RuntimeParams(threads=1, device="cpu", devices=devices)),
        "tracking": as_text(TrackingParams()),
    }
    return train_on_nodes(
        texts,
        ON,
        code="code",
        prepared=root / "prepared",
        tuned=root / "tuned",
        model=root / "model",
        runner=JobRunner(NAMESPACE, poll_s=0.2, away_s=away_s),
    )


@pytest.mark.slow
def test_two_nodes_train_what_one_process_does_and_nothing_is_left(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.faults[("POST", "trainjobs")] = [0]  # made, and the answer lost
    cluster.faults[("GET", "trainjobs")] = [503, 500]
    trained = run(tmp_path)
    assert "tiny_one epoch 2/2" in capsys.readouterr().err
    (body,) = cluster.created
    assert body["metadata"]["labels"][QUEUE_LABEL] == "segops"
    assert body["spec"]["trainer"]["numNodes"] == 2
    assert body["spec"]["trainer"]["resourcesPerNode"]["limits"] == {"cpu": "1", "memory": "2Gi"}
    assert '"nodeSelector": {"pool": "train"}' in json.dumps(body["spec"]["runtimePatches"])
    assert not cluster.jobs
    assert sorted(path.name.partition("-")[0] for path in (tmp_path / "volume/jobs").iterdir()) == ["prepared"]
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "alone"))
    settings = SMALL, RuntimeParams(threads=1, device="cpu"), TrackingParams()
    alone = train("tiny_one", *settings, prepared=tmp_path / "prepared", model=tmp_path / "by_one")
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("by_one", "model"))
    assert all(two[name].sub(weight).abs().max() < 1e-4 for name, weight in one.items())
    assert trained.val_dice == pytest.approx(alone.val_dice, abs=1e-3)


@pytest.mark.slow
def test_a_pods_own_line_is_the_steps(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^TrainJob segops-tiny-one-\w{12}: node-[01]: torchrun started 2 processes, run"
    ):
        run(tmp_path, devices=3)
    assert not cluster.jobs
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_a_terminated_run_takes_its_job_along(cluster: Cluster, tmp_path: Path) -> None:
    def end() -> None:
        while not cluster.jobs:
            pass
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, _exit)
    threading.Thread(target=end).start()
    try:
        with pytest.raises(SystemExit):
            run(tmp_path, recipe=candidate(UNET, epochs=50))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not cluster.jobs
    assert all(node.process.poll() is not None for nodes in cluster.nodes.values() for node in nodes)


def _exit(*_: object) -> None:
    raise SystemExit(143)


def test_a_missing_right_is_named(cluster: Cluster, tmp_path: Path) -> None:
    cluster.faults[("POST", "trainjobs")] = [403]
    with pytest.raises(
        UserError, match=r"Kubernetes refuses to create segops-tiny-one-\w+ \(a fault .*role segops-train-job"
    ):
        run(tmp_path)


def test_a_runtime_that_is_not_there_is_named(cluster: Cluster, tmp_path: Path) -> None:
    runner = JobRunner(NAMESPACE, poll_s=0.1, away_s=1)
    on = ON.train.model_copy(update={"runtime": "other"})
    with pytest.raises(UserError, match="TrainingRuntime other"):
        runner.run("segops-x", on, ON.profiles["node"], image="segops/train-python:0.1.0", folder="/f", hours=1)
    assert not cluster.created


def test_an_api_that_stays_away_ends_the_step_and_may_be_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    cluster.faults[("GET", "trainingruntimes")] = [503] * 50
    with pytest.raises(TryAgainError, match=r"Kubernetes doesn't answer \(a fault") as told:
        run(tmp_path, away_s=0.5)
    assert told.value.exit_code == 75
