"""A candidate that is the mean of several networks: other seeds, other models, other inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segops.commands.clean import clean
from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.data.arrays import PreparedData
from segops.inference.predict import Predictor
from segops.inference.program import EnsembleProgram
from segops.inference.trained import load_program
from segops.params.candidate import CandidateParams
from segops.params.evaluate import EvaluateParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.pictures.gradcam import gradcam
from segops.stages.evaluate import evaluate
from segops.stages.train import train
from tests.support.mlflow_server import AWAY
from tests.support.tiny_prepared import write_prepared
from tests.training.test_train import RESUNET, UNET, candidate

RUNTIME = RuntimeParams(threads=1, device="cpu")


def member(model: Any = UNET, size: int = 32, **recipe: Any) -> dict[str, Any]:
    """A network as params.yaml has it."""
    dumped = candidate(model, size=size, epochs=2, precise_bn_images=None, **recipe).model_dump()
    return {name: dumped[name] for name in ("model", "input", "recipe")}


PARAMS = CandidateParams.model_validate(
    member()
    | {"members": [member(seed=1), member(RESUNET, size=48) | {"outputs": "sigmoid"}], "inference": {"tta": "flips"}}
)


@pytest.fixture(autouse=True)
def _away(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(shared))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("members")


@pytest.fixture
def model(shared: Path) -> TrainedModel:
    """The ensemble; trained once."""
    if not (shared / "models").exists():
        write_prepared(shared / "prepared")
        trained(shared, PARAMS, "ensemble")
    return TrainedModel.load(shared / "models" / "ensemble")


def trained(root: Path, params: CandidateParams, name: str) -> TrainedModel:
    return train("net", params, RUNTIME, TrackingParams(), prepared=root / "prepared", model=root / "models" / name)


def test_it_is_the_mean_of_its_networks_each_trained_by_itself(shared: Path, model: TrainedModel) -> None:
    image = PreparedData.open(shared / "prepared").image(0)
    alone = [trained(shared, one, f"alone{at}") for at, one in enumerate(PARAMS.networks)]
    maps = [Predictor.load(shared / "models" / f"alone{at}").probability(image) for at in range(3)]
    found = Predictor.load(shared / "models" / "ensemble").probability(image)
    np.testing.assert_allclose(found, np.mean(maps, axis=0), atol=1e-6)
    assert not np.allclose(maps[0], maps[1])
    assert model.parameters == sum(one.parameters for one in alone)
    assert len(model.members) == 2
    # One network with the same name and params is the same training.
    assert model.checkpoints == [one.checkpoints[0] for one in alone]


def test_finished_networks_are_not_trained_again(
    shared: Path, model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segops.training.loop.train_epoch", lambda *_: pytest.fail("trained twice"))
    assert trained(shared, PARAMS, "ensemble") == model
    clean(RUNTIME, models=shared / "models")
    assert trained(shared, PARAMS, "ensemble") == model


@pytest.mark.slow
def test_it_is_evaluated_explained_and_exported_as_one(shared: Path, model: TrainedModel) -> None:
    params = EvaluateParams(gallery_images=1)
    folder = shared / "models" / "ensemble"
    made = evaluate(params, RUNTIME, prepared=shared / "prepared", model=folder, report=shared / "report")
    assert made == Evaluation.load(shared / "report")
    assert made.val.dice.mean == pytest.approx(model.val_dice, abs=1e-6)
    program, _ = load_program(folder)
    assert isinstance(program, EnsembleProgram)
    image = torch.rand(2, 3, 37, 41, generator=torch.Generator().manual_seed(0))
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    exported = torch.export.export(program, (image,), dynamic_shapes=(sizes,)).module()
    with torch.inference_mode():
        torch.testing.assert_close(exported(image[:1]), program(image[:1]), atol=1e-6, rtol=1e-5)
    cam = gradcam(Predictor.load(folder), np.full((40, 40, 3), 90, np.uint8))
    assert cam.shape == (40, 40)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"members": [member(seed=1)], "cross_validation": "scores"}, "members and cross_validation don't go together"),
        ({"members": [member()]}, "two networks of a candidate are alike; give a member another recipe.seed"),
        ({"members": [member(seed=1), member(seed=1)]}, "two networks of a candidate are alike"),
        ({"members": [member(seed=1) | {"input": {"size": 32, "channels": 1}}]}, "must see as many channels"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        CandidateParams.model_validate(member() | given)
