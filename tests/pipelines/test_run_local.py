"""What `run-local` says when a step fails; that it works is tests/graph/test_repro.py's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipelines.local import _failed_step, run_local
from pipelines.overrides import override
from segops.contracts.registration import Registration
from segops.errors import UserError
from segops.params.project import load_params
from segops.tracking import registry, store
from tests.support.factories import make_pairs
from tests.support.small_models import brightness_params, brightness_program, save_candidate


def test_the_failing_step_is_named_with_its_candidate() -> None:
    text = (
        "Pipeline \x1b[95m'segops-training'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m. Inner task failed: "
        "\x1b[96m'train'\x1b[0m inside \x1b[96m'for-loop-2-iteration-1'\x1b[0m inside \x1b[96m'exit-handler-1'\x1b[0m."
    )
    assert _failed_step(text, ["resunet", "unet"]) == "step train of candidate unet failed"
    assert _failed_step(text.replace("train'", "prepare-part'"), []) == "step prepare-part of part 1 failed"


@pytest.mark.slow
def test_a_source_that_is_not_there_ends_the_run_with_one_line(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    params = override(load_params(root / "params.yaml"), ["ingest.source=no/such.zip", "kubeflow.retries=0"])
    with pytest.raises(UserError, match=r"^run-local: step source-state failed; its own words stand above$"):
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
    kept = (tmp_path / "out").glob("*/for-loop-*/register/registered/registration.json")
    assert {Registration.load(path.parent).candidate for path in kept} == set(params.candidates) - {"resunet"}
    assert not list((tmp_path / "out").glob("*/compare"))


def test_no_docker_engine_is_one_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(UserError, match=r"^run-local --docker: .*; start the engine, and build") as error:
        run_local(load_params(root / "params.yaml"), tmp_path / "out", docker=True)
    assert "\n" not in str(error.value)


def keys(runs: Path, step: str, output: str = "Output") -> list[str]:
    """What the runs below a folder used as the key of their data, or what else that step gave, the oldest first."""
    outputs = sorted(runs.glob(f"*/{step}/executor_output.json"), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(path.read_text())["parameterValues"][output] for path in outputs]


@pytest.mark.slow
def test_a_runs_key_is_that_of_an_earlier_one_until_its_source_changes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    source = make_pairs(tmp_path / "raw", n=2)
    short = [f"ingest.source={source}", "ingest.mask_values={0: background, 255: nucleus}", "kubeflow.retries=0"]
    params = override(load_params(root / "params.yaml"), [*short, "validate.min_images=9"])
    for changed in (False, False, True):
        if changed:
            os.utime(next((source / "images").iterdir()), ns=(1, 1))
        with pytest.raises(UserError, match=r"^run-local: step validate failed"):  # of 2 images; ingest went through
            run_local(params, tmp_path / "out")
    first, second, third = keys(tmp_path / "out", "source-state", "source")
    assert first == second != third


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_whose_source_is_unchanged_is_one_step_and_one_line_until_something_is_to_be_mended(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    source = make_pairs(tmp_path / "raw", n=48, size=64)
    given = [f"ingest.source={source}", "ingest.mask_values={0: background, 255: nucleus}"]
    params = override(load_params(root / "params.yaml"), SMALL[1:] + given)
    client, name = store.client(), params.tracking.model_name

    def ran() -> set[str]:
        capfd.readouterr()
        made = run_local(params, tmp_path / "out")
        said = capfd.readouterr()
        steps = {path.name for path in made.rglob("*") if (path / "executor_output.json").is_file()}
        line = "nothing to do: the source, the params and the code are those that were compared before"
        assert (line in said.out + said.err) == ("train" not in steps)
        return steps

    whole = ran()
    assert {"ingest", "train", "register", "compare"} <= whole
    unchanged = ran()
    assert unchanged == {"source-state", "report-status"}
    client.delete_model_version(name, "1")
    assert ran() == whole
    kept = {int(version.version) for version in client.search_model_versions(f"name = '{name}'")}
    assert kept == set(range(2, len(params.candidates) + 2))  # the deleted one was registered anew
    registry.set_alias(client, name, registry.CHALLENGER, None)
    assert ran() == whole
    assert registry.alias(client, name, registry.CHALLENGER) is not None
    assert ran() == unchanged
    os.utime(next((source / "images").iterdir()), ns=(1, 1))
    assert ran() == whole


@pytest.mark.slow
def test_a_batchs_key_changes_with_its_images_and_its_model(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    images, model = make_pairs(tmp_path / "raw", n=1) / "images", tmp_path / "model"
    save_candidate(model, brightness_program(), brightness_params())
    given = [f"batch.source={images}", f"batch.model={model}", "kubeflow.retries=0"]
    params = override(load_params(root / "params.yaml"), given)
    for touched in (None, None, next(images.iterdir()), model / "model.json"):
        if touched is not None:
            os.utime(touched, ns=(1, 1))
        run_local(params, tmp_path / "out", pipeline="batch-inference")
    first, second, third, fourth = keys(tmp_path / "out", "batch-state")
    assert first == second
    assert len({first, third, fourth}) == 3
