"""The graph under DVC, as a stranger runs it: all stages, then nothing, then only what changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.both_engines import check_out, check_same_outputs, repro, run, run_pipeline
from tests.support.checkout import ROOT

pytestmark = pytest.mark.timeout(900)  # twelve stages, each a process

STAGES = ["ingest", "validate", "split", "prepare", "tune"]


def _params() -> dict[str, Any]:
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["ingest"]["source"] = "synthetic://nuclei?n=48&size=64&seed=3"
    params["register"]["floors"] = {"dice": 0.0, "iou": 0.0}
    params["evaluate"] |= {"gallery_images": 1}
    params["kubeflow"] = {"shards_at_once": 2}
    params["promote"] |= {"min_test_dice": 0.0, "min_test_iou": 0.0}
    del params["candidates"]["otsu"]  # test_untrained.py takes it through the stages
    for candidate in params["candidates"].values():
        candidate["input"]["size"] = 64
        candidate["recipe"] |= {"epochs": 1, "batch_size": 16, "precision": "fp32"}
    params["candidates"]["resunet"]["model"]["filters"] = [4, 8]
    params["candidates"]["unet"]["model"] |= {"base_filters": 4, "depth": 2}
    space = {"recipe.learning_rate": {"float": [0.0005, 0.02], "log": True}, "model.base_filters": {"int": [2, 4]}}
    params["tune"] |= {"searches": {"unet": {"space": space, "trials": 2}}, "confirm_seeds": 1}
    return params


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout with small params in which the graph has run once."""
    folder = check_out(tmp_path_factory.mktemp("project"), _params())
    per_candidate = {f"{stage}@{name}" for stage in ("train", "evaluate", "register") for name in ("resunet", "unet")}
    assert repro(folder) == {"code", *STAGES, *per_candidate, "compare"}
    yield folder
    shutil.rmtree(folder)


def test_a_second_repro_does_nothing(project: Path) -> None:
    assert repro(project) == set()


@pytest.mark.slow
def test_kubeflows_pipeline_gives_the_same_bytes_at_every_stage(project: Path, tmp_path: Path) -> None:
    steps = run_pipeline(project, tmp_path)
    check_same_outputs(project, steps, candidates=2)
    weights = [path.read_bytes() for path in sorted(steps.glob("for-loop-*/train/model/weights.safetensors"))]
    assert len(set(weights)) == 2


def test_the_outputs_end_in_a_comparison_of_registered_versions(project: Path) -> None:
    comparison = json.loads((project / "reports/comparison/comparison.json").read_text())
    assert {one["candidate"] for one in comparison["standings"]} == {"resunet", "unet"}
    assert {one["version"] for one in comparison["standings"]} == {1, 2}
    assert comparison["challenger"] == comparison["standings"][0]["candidate"]
    assert json.loads((project / "data/split/split.json").read_text())["groups_on_two_sides"] == 0


def test_nothing_that_git_would_take_is_left_behind_but_the_lock(project: Path) -> None:
    assert run(project, "git", "status", "--short").stdout.split() == ["??", "dvc.lock"]


def test_no_deterministic_file_names_this_machine(project: Path) -> None:
    for path in [*project.glob("data/*/*.json"), *project.glob("reports/**/*.json"), *project.glob("models/**/*.json")]:
        if path.name != "run.json":
            assert str(project) not in path.read_text(), path


@pytest.mark.slow
def test_a_learning_rate_reruns_its_candidate_and_compare_alone(project: Path) -> None:
    before = (project / "models/candidates/resunet/weights.safetensors").read_bytes()
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["candidates"]["unet"]["recipe"]["learning_rate"] = 0.001
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    assert repro(project) == {"tune", "train@unet", "evaluate@unet", "register@unet", "compare"}
    assert (project / "models/candidates/resunet/weights.safetensors").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("training/losses.py", '# A comment.\n"""Words."""\n', set()),
        ("reports/templates/gallery.html.j2", "\n", {"evaluate"}),  # whose page is as it was
        ("reports/comparison_page.py", "WORDS = 1\n", {"compare"}),
    ],
)
def test_an_edit_of_words_or_pages_trains_nothing(project: Path, file: str, text: str, expected: set[str]) -> None:
    with (project / "src/segops" / file).open("a") as source:
        source.write(text)
    assert {stage.partition("@")[0] for stage in repro(project)} == {"code", *expected}


def test_a_tuned_model_says_which_params_a_search_chose(project: Path) -> None:
    tuned = yaml.safe_load((project / "models/tuned/best.yaml").read_text())
    assert tuned["resunet"] == {}
    model = json.loads((project / "models/candidates/unet/model.json").read_text())
    if tuned["unet"]["values"]:
        assert model["tuned"] == {name: tuned["unet"][name] for name in ("study", "trial", "values")}
        assert model["params"]["recipe"]["learning_rate"] == tuned["unet"]["values"]["recipe.learning_rate"]
    else:
        assert model["tuned"] is None


@pytest.mark.slow
def test_promote_predict_and_rollback_from_the_command_line(project: Path, tmp_path: Path) -> None:
    refused = run(project, "segops", "promote", "challenger")
    assert refused.returncode == 1
    assert "pass --yes" in refused.stderr
    first = run(project, "segops", "promote", "1", "--yes", "--reason", "first")
    assert first.returncode == 0, first.stderr
    assert "champion is version 1" in first.stdout

    from PIL import Image

    Image.effect_noise((70, 50), 40).save(tmp_path / "a.png")
    done = run(project, "segops", "predict", str(tmp_path / "a.png"), str(tmp_path / "out"), "--overlays")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out" / "a.png").size == (70, 50)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.overlay.png", "a.png"]
    assert "first" in run(project, "segops", "history").stdout


@pytest.mark.slow
def test_an_empty_store_is_filled_from_files(project: Path) -> None:
    (project / "mlflow.db").unlink()
    shutil.rmtree(project / "mlartifacts")
    rebuilt = run(project, "segops", "register", "--missing")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "resunet, unet" in rebuilt.stdout
    again = run(project, "segops", "register", "--missing")
    assert "nothing was missing" in again.stdout


@pytest.mark.slow
def test_a_temporary_experiment_runs_and_uses_the_projects_stores(project: Path) -> None:
    run(project, "git", "add", "-A")
    run(project, "git", "commit", "-qm", "ran")
    done = run(project, "dvc", "exp", "run", "--temp", "-S", "candidates.unet.recipe.learning_rate=0.003")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = run(project, "dvc", "exp", "show", "--csv")
    assert "0.003" in shown.stdout
    assert not list(project.glob(".dvc/tmp/exps/**/mlflow.db"))
