"""Steps by the command of the compiled pipeline, killed, ended or without their server, come to the same result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from segops.contracts.model import WEIGHTS_FILE
from segops.contracts.registration import Registration
from segops.contracts.tables import HISTORY_FILE
from segops.files import sha256_file
from segops.params.compact import as_text
from segops.params.register import RegisterParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.tracking import runs, store
from tests.support.judged_candidates import folders, write_candidate
from tests.support.machine import wait_until
from tests.support.mlflow_server import MlflowServer, own_names
from tests.support.tiny_prepared import write_prepared
from tests.training.test_resume import epochs_done
from tests.training.test_train import UNET, candidate

pytest_plugins = ["tests.support.mlflow_stores"]
EPOCHS = 20


def start(step: str, folder: Path, root: Path, inputs: dict[str, Any], **environment: str) -> subprocess.Popen[str]:
    """The step's process as its container starts it, with this interpreter; outputs stand in `folder`."""
    pipeline = next(yaml.safe_load_all((root / "pipelines" / "segops-training.yaml").read_text()))
    container = pipeline["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    outputs = pipeline["components"][f"comp-{step}"]["outputDefinitions"]["artifacts"]
    artifacts = {name: value for name, value in inputs.items() if isinstance(value, Path)}
    given = {
        "inputs": {
            "parameterValues": {name: value for name, value in inputs.items() if name not in artifacts},
            "artifacts": {name: _artifact(name, path) for name, path in artifacts.items()},
        },
        "outputs": {
            "artifacts": {
                name: _artifact(name, folder / name, **about["artifactType"]) for name, about in outputs.items()
            },
            "outputFile": str(folder / "executor_output.json"),
        },
    }
    words = [sys.executable if word == "python3" else word for word in container["command"]]
    args = [json.dumps(given) if word == "{{$}}" else word for word in container["args"]]
    declared = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    return subprocess.Popen(
        [*words, *args],
        env={**os.environ, **declared, "PYTHONPATH": str(root), "DVC_ROOT": str(folder), "SEGOPS_RETRY_PAUSE_S": "1"}
        | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=folder,
        start_new_session=True,
    )


def _artifact(name: str, path: Path, schemaTitle: str = "system.Artifact", **_: str) -> dict[str, Any]:
    kind = {"schemaTitle": schemaTitle, "schemaVersion": "0.0.1"}
    return {"artifacts": [{"name": name, "uri": str(path), "type": kind, "metadata": {}}]}


def training(folder: Path, tracking: TrackingParams) -> dict[str, Any]:
    (folder / "tuned").mkdir(parents=True, exist_ok=True)
    (folder / "tuned" / "best.yaml").write_text("tiny: {}\n")
    if not (folder / "prepared").exists():
        write_prepared(folder / "prepared")
    return {
        "candidate": "tiny",
        "recipe": as_text(candidate(UNET, epochs=EPOCHS, ema_decay=0.8)),
        "runtime": as_text(RuntimeParams(threads=1, device="cpu")),
        "tracking": as_text(tracking),
        "code": "",
        "prepared": folder / "prepared",
        "tuned": folder / "tuned",
    }


def trained(folder: Path) -> tuple[str, str]:
    return sha256_file(folder / "model" / WEIGHTS_FILE), sha256_file(folder / "model" / HISTORY_FILE)


def killed_after(epochs: int, process: subprocess.Popen[str], folder: Path, how: signal.Signals) -> None:
    """Send the signal to the process that trains (SIGKILL), or to the step's whole group (SIGTERM)."""
    wait_until(lambda: epochs_done(folder) >= epochs, process)
    if how is signal.SIGKILL:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid), "-f", "^[^ ]+ -m components "], check=True)
    else:
        os.killpg(process.pid, how)


@pytest.mark.slow
def test_a_trainer_that_is_killed_or_ended_comes_to_the_bits_of_one_that_was_left_alone(
    root: Path, tmp_path: Path, server: MlflowServer
) -> None:
    results = {}
    for how in (None, signal.SIGKILL, signal.SIGTERM):
        folder, tracking = tmp_path / (how.name if how else "whole"), own_names()
        inputs = training(folder, tracking)
        given = {"MLFLOW_TRACKING_URI": server.uri, "SEGOPS_KFP_RUN_ID": "run-1"}
        step = start("train", folder, root, inputs, **given)
        if how is not None:
            killed_after(2, step, folder, how)
        _, said = step.communicate(timeout=240)
        if how is signal.SIGKILL:
            assert "the step was killed by SIGKILL; it starts again in 1 s (retry 1 of 2)" in said
            assert "tiny: resumes after epoch" in said
        if how is signal.SIGTERM:
            assert step.returncode == 128 + signal.SIGTERM
            assert status(server, tracking) == "KILLED"
            assert not (folder / "model").exists()
            step = start("train", folder, root, inputs, **given)  # the same run submitted again
            _, said = step.communicate(timeout=240)
            assert "tiny: resumes after epoch" in said
        assert step.returncode == 0, said
        assert status(server, tracking) == "FINISHED"
        results[folder.name] = trained(folder)
    assert results["SIGKILL"] == results["SIGTERM"] == results["whole"]


def status(server: MlflowServer, tracking: TrackingParams) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        client = store.client()
        (run,) = client.search_runs([store.experiment_id(client, tracking.experiment)])
        assert run.data.tags[runs.KUBEFLOW_TAG] == "run-1"
        return str(run.info.status)


@pytest.mark.slow
def test_a_registration_without_its_server_is_tried_again_when_the_server_is_back(
    root: Path, tmp_path: Path, empty_store: Path
) -> None:
    write_candidate(tmp_path, "small")
    (tmp_path / "server").mkdir()
    shutil.copyfile(empty_store, tmp_path / "server" / "server.db")
    server, places = MlflowServer(tmp_path / "server"), folders(tmp_path)
    inputs = {
        "params": as_text(RegisterParams()),
        "tracking": as_text(own_names()),  # which waits for nothing
        "model": places.models / "small",
        "report": places.reports / "small",
    }
    step = start("register", tmp_path, root, inputs, MLFLOW_TRACKING_URI=server.uri, SEGOPS_RETRY_PAUSE_S="30")
    assert step.stderr is not None
    said: list[str] = []
    while "starts again" not in "".join(said):
        said.append(step.stderr.readline())
        assert said[-1], said
    server.start()
    _, rest = step.communicate(timeout=240)
    server.stop()
    assert step.returncode == 0, rest
    assert "segops: MLflow at" in "".join(said)
    assert "ended with exit code 75: trying again may help; it starts again in 30 s (retry 1 of 2)" in said[-1]
    assert Registration.load(tmp_path / "registered").version == 1
