"""What `run-local` says when a step fails; that it works is tests/test_repro.py's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.local import _failed_step, run_local
from pipelines.overrides import override
from segops.errors import UserError
from segops.model_contracts import Registration
from segops.params.project import load_params


def test_the_failing_step_is_named_with_its_candidate() -> None:
    text = (
        "Pipeline \x1b[95m'segops-training'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m. Inner task failed: "
        "\x1b[96m'train'\x1b[0m inside \x1b[96m'for-loop-2-iteration-1'\x1b[0m inside \x1b[96m'exit-handler-1'\x1b[0m."
    )
    assert _failed_step(text, ["resunet", "unet"]) == "step train of candidate unet failed"


@pytest.mark.slow
def test_a_failing_ingest_ends_the_run_with_one_line(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    params = override(load_params(root / "params.yaml"), ["ingest.source=no/such.zip", "kubeflow.retries=0"])
    with pytest.raises(UserError, match=r"^run-local: step ingest failed; its own words stand above$"):
        run_local(params, tmp_path / "out")
    said = capfd.readouterr()
    assert "segops: ingest.source: no/such.zip: no such file or folder" in said.out + said.err


def test_containers_need_a_server_for_mlflow(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--docker: containers share no file; start a server"):
        run_local(load_params(root / "params.yaml"), tmp_path, docker=True)


SMALL = [
    "ingest.source=synthetic://nuclei?n=48&size=64&seed=3",
    "kubeflow.retries=0",
    "register.floors={dice: 0.0, iou: 0.0}",
    "candidates.resunet.model.filters=[4, 8]",
    "candidates.unet.model.base_filters=4",
    "tune.searches={}",
    *(f"candidates.{name}.input.size=64" for name in ("resunet", "unet")),
    *(f"candidates.{name}.recipe.{knob}" for name in ("resunet", "unet") for knob in ("epochs=1", "precision=fp32")),
]


@pytest.mark.slow
def test_a_candidate_that_fails_is_named_and_the_others_results_are_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    # One image a step, and one pixel of it at the lowest level: batch norm refuses it in mid-training.
    failing = ["candidates.resunet.model.filters=[4, 4, 4, 4, 4, 4, 4]", "candidates.resunet.recipe.batch_size=1"]
    params = override(load_params(root / "params.yaml"), SMALL + failing)
    with pytest.raises(UserError, match=r"^run-local: step train of candidate resunet failed; its own words"):
        run_local(params, tmp_path / "out")
    said = capfd.readouterr()
    assert "segops: candidate resunet: a batch of one image is a single value" in said.out + said.err
    (kept,) = (tmp_path / "out").glob("*/for-loop-*/register/registered/registration.json")
    assert Registration.load(kept.parent).candidate == "unet"
    assert not list((tmp_path / "out").glob("*/compare"))


def test_no_docker_engine_is_one_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(UserError, match=r"^run-local --docker: .*; start the engine, and build") as error:
        run_local(load_params(root / "params.yaml"), tmp_path / "out", docker=True)
    assert "\n" not in str(error.value)
