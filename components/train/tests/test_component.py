from __future__ import annotations

from pathlib import Path
from typing import Any

from components.train import train
from segops.contracts.model import TrainedModel
from segops.contracts.tuned import Tuned, TunedCandidate
from segops.params.candidate import CandidateParams
from segops.params.compact import as_text
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from tests.support.component_steps import refused, run_step
from tests.support.small_models import candidate_params
from tests.support.tiny_prepared import write_prepared


def _train(tmp_path: Path, tuned: TunedCandidate | None = None, **recipe: Any) -> Any:
    recipe = {"epochs": 1, "batch_size": 5, "ema_decay": None} | recipe
    params = CandidateParams.model_validate({**candidate_params(32).model_dump(), "recipe": recipe})
    given = {"runtime": as_text(RuntimeParams(threads=1)), "tracking": as_text(TrackingParams()), "code": ""}
    folders = {"prepared": write_prepared(tmp_path / "prepared"), "tuned": tmp_path / "tuned"}
    Tuned(candidates={"small": tuned}).save(folders["tuned"])
    return run_step(train, tmp_path, candidate="small", recipe=as_text(params), **folders, **given)["model"]


def test_a_model_with_its_facts(tmp_path: Path) -> None:
    made = _train(tmp_path)
    model = TrainedModel.load(Path(made.path))
    assert made.metadata == {
        "candidate": "small",
        "key": model.key[:12],
        "weights_sha256": model.weights_sha256[:12],
        "val_dice": model.val_dice,
        "best_epoch": 1,
        "parameters": model.parameters,
    }
    assert (Path(made.path) / "weights.safetensors").is_file()


def test_tuned_values_go_into_the_params(tmp_path: Path) -> None:
    found = TunedCandidate(values={"recipe.batch_size": 3}, study="s", trial=1, score=0.5, default_score=0.4)
    model = TrainedModel.load(Path(_train(tmp_path, found).path))
    assert model.params["recipe"]["batch_size"] == 3


def test_a_training_that_diverges_is_one_line_and_leaves_no_model(tmp_path: Path) -> None:
    with refused(r"^segops: candidate small, epoch 1: train_loss is nan; lower recipe"):
        _train(tmp_path, output_bias=float("nan"))
    assert not (tmp_path / "model").exists()
