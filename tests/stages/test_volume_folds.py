"""Volumes under cross-validation, as the mean of two networks, and in a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segops.data.arrays import PreparedData
from segops.inference.predict import Predictor
from segops.params.candidate import CandidateParams
from segops.params.evaluate import EvaluateParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.evaluate import evaluate
from segops.stages.train import train
from tests.support.mlflow_server import AWAY
from tests.support.tiny_searches import result_of, trials_of, tune_params
from tests.support.tiny_volumes import prepared_volumes
from tests.support.volume_runs import SLICES, VOLUMES

RUNTIME = RuntimeParams(threads=1, device="cpu")
QUICK = {**VOLUMES["recipe"], "epochs": 1, "loss": {"name": "bce"}}
OWN = {**VOLUMES, "recipe": QUICK}


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreparedData:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    return prepared_volumes(tmp_path)


def test_an_ensemble_of_folds_is_judged_out_of_fold_by_volume(volumes: PreparedData, tmp_path: Path) -> None:
    params = CandidateParams.model_validate({**OWN, "cross_validation": "ensemble"})
    places = {"prepared": tmp_path / "prepared", "model": tmp_path / "model"}
    made = train("net", params, RUNTIME, TrackingParams(), **places)
    assert [fold.fold for fold in made.folds] == volumes.folds
    judged = evaluate(EvaluateParams(gallery_images=1), RUNTIME, **places, report=tmp_path / "report")
    assert judged.out_of_fold is not None
    assert judged.out_of_fold.volumes is not None
    assert judged.out_of_fold.images == len(volumes) - len(volumes.rows("test"))


def test_two_networks_predict_their_mean_on_a_volumes_own_grid(volumes: PreparedData, tmp_path: Path) -> None:
    params = CandidateParams.model_validate({**OWN, "members": [{**OWN, "recipe": {**QUICK, "seed": 1}}]})
    tracking, prepared = TrackingParams(), tmp_path / "prepared"
    train("net", params, RUNTIME, tracking, prepared=prepared, model=tmp_path / "both")
    maps = []
    for number, network in enumerate(params.networks):
        train("net", network, RUNTIME, tracking, prepared=prepared, model=tmp_path / str(number))
        alone = Predictor.load(tmp_path / str(number))
        maps.append(alone.probability(volumes.image(0), volumes.spacing_mm(0)))
    both = Predictor.load(tmp_path / "both").probability(volumes.image(0), volumes.spacing_mm(0))
    assert both.shape == (3, *volumes.size(0))
    np.testing.assert_allclose(both, np.mean(maps, axis=0), atol=1e-5)
    assert not np.allclose(maps[0], maps[1])


@pytest.mark.usefixtures("volumes")
@pytest.mark.parametrize("entry", [SLICES, VOLUMES], ids=["slices", "volumes"])
def test_a_search_tries_and_times_networks_of_volumes(tmp_path: Path, entry: dict[str, Any]) -> None:
    candidate = CandidateParams.model_validate({**entry, "recipe": {**entry["recipe"], **QUICK}})
    search = tune_params(search={"trials": 2}, objectives=["dice", "milliseconds"])
    result_of(search, tmp_path / "prepared", candidate)
    trials = trials_of(search, tmp_path / "prepared", candidate)
    assert [trial.state for trial in trials] == ["complete", "complete"], [trial.reason for trial in trials]
    assert all(trial.dice is not None and trial.milliseconds for trial in trials)
