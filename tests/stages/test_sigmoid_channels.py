"""Candidates with a sigmoid channel a class, from training to scores: what follows sees what it sees of a softmax."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from segops.contracts.tables import history_columns
from segops.data.arrays import PreparedData
from segops.inference.predict import Predictor
from segops.params.candidate import CandidateParams
from segops.params.evaluate import EvaluateParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.evaluate import evaluate
from segops.stages.train import train
from tests.support.mlflow_server import AWAY
from tests.support.tiny_prepared import write_prepared
from tests.training.test_train import RESUNET, candidate

RUNTIME = RuntimeParams(threads=1, device="cpu")
LOSS = {"name": "bce_dice", "bce_weight": 0.5, "dice_weight": 0.5}


@pytest.mark.parametrize(("classes", "rule"), [(2, "best_dice"), (3, "argmax")])
def test_it_learns_is_decided_and_scored(
    classes: int, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    given = candidate(RESUNET, epochs=8, loss=LOSS).model_dump() | {"outputs": "sigmoid"}
    given["inference"]["tta"] = "flips"
    prepared, folder = write_prepared(tmp_path / "prepared", classes=classes), tmp_path / "model"
    params = CandidateParams.model_validate(given)
    model = train("tiny", params, RUNTIME, TrackingParams(), prepared=prepared, model=folder)
    with safe_open(folder / "weights.safetensors", framework="np") as file:
        assert len(file.get_tensor("output.bias")) == classes
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == history_columns(["bce", "dice"])
    for subset in ("train", "val"):
        first, last = (float(row[f"{subset}_loss_bce"]) for row in (rows[0], rows[-1]))
        assert last < first
    assert model.rule == rule
    data, predictor = PreparedData.open(prepared), Predictor.load(folder)
    probability_KHW = predictor.probability(data.image(0))
    assert len(probability_KHW) == (1 if classes == 2 else 3)
    if classes == 3:  # of which two look alike
        np.testing.assert_allclose(probability_KHW.sum(axis=0), 1, atol=1e-5)
    found_HW, truth_HW = predictor.mask(data.image(0)) > 0, data.mask(0) > 0
    assert (found_HW & truth_HW).sum() > 0.8 * (found_HW | truth_HW).sum()
    scored = evaluate(EvaluateParams(gallery_images=1), RUNTIME, prepared=prepared, model=folder, report=tmp_path / "r")
    assert scored.val.dice.mean == pytest.approx(model.val_dice, abs=1e-6)
