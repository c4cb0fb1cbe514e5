"""Ignored pixels from files through training and evaluation to the reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from segops.contracts.masks import IGNORED
from segops.contracts.per_image import PER_IMAGE_FILE
from segops.data.arrays import PreparedData
from segops.inference.predict import Predictor
from segops.params.candidate import CandidateParams
from segops.params.evaluate import EvaluateParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.params.validate import ValidateParams
from segops.pictures.thumbnails import Thumbnails
from segops.stages.evaluate import evaluate
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.train import train
from segops.stages.validate import validate
from tests.support.factories import ingest_params, tiny_split, write_image
from tests.support.mlflow_server import AWAY
from tests.support.tiny_prepared import disc

SIDE, LEFT = 40, 30  # columns from LEFT on are ignored
WHOLLY = "21"  # the image of which all is ignored, in validation


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright discs; in the ignored stripe everything is bright, which training would take for a disc."""
    root = tmp_path_factory.mktemp("stripe")
    for i in range(24):
        image_HWC, mask_HW = disc((SIDE, SIDE), 1, seed=i)
        image_HWC[:, LEFT:] = 255
        mask_HW[:, 0 if f"{i:02}" == WHOLLY else LEFT :] = 128
        write_image(root / "raw" / "images" / f"{i:02}.png", image_HWC)
        write_image(root / "raw" / "masks" / f"{i:02}.png", mask_HW)
    params = ingest_params(root / "raw", mask_values={0: "background", 1: "disc"}, ignore_values=[128])
    ingest(params, dataset=root / "dataset")
    prepare(dataset=root / "dataset", split=tiny_split(root / "dataset", root / "split"), prepared=root / "prepared")
    return root / "dataset"


def test_the_report_shows_ignored_pixels_and_no_mask_is_refused_for_them(dataset: Path, tmp_path: Path) -> None:
    report = validate(ValidateParams(), dataset=dataset, report=tmp_path / "r")
    warned = {
        expectation.name: expectation.failing_ids for expectation in report.expectations if not expectation.success
    }
    assert report.success
    assert warned["no empty mask"] == [WHOLLY]
    page = (tmp_path / "r" / "report.html").read_text()
    assert "Hatched pixels are ignored" in page
    assert "ignored 25.0%" in page or "ignored 100.0%" in page


def candidate(**given: Any) -> CandidateParams:
    recipe = {"epochs": 8, "batch_size": 4, "learning_rate": 0.02, "ema_decay": None, "precision": "fp32"}
    return CandidateParams.model_validate(
        {
            "model": {"architecture": "resunet", "filters": [4, 8]},
            "input": {"size": SIDE},
            "recipe": {**recipe, "loss": {"name": "bce_dice", "class_weights": "inverse_frequency"}},
            "objects": {"target": "distance"},
            "inference": {"instances": {"method": "watershed", "seeds": "predicted"}, "postprocess": {"search": True}},
            **given,
        }
    )


def test_a_model_learns_and_is_scored_without_the_ignored_stripe(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    folder, report, prepared = tmp_path / "model", tmp_path / "report", dataset.parent / "prepared"
    runtime = RuntimeParams(threads=1, device="cpu")
    train("tiny", candidate(), runtime, TrackingParams(), prepared=prepared, model=folder)
    made = evaluate(EvaluateParams(gallery_images=2), runtime, prepared=prepared, model=folder, report=report)
    assert made.test.ignored_share == 0.25
    assert made.val.ignored_share == pytest.approx((5 * 0.25 + 1) / 6)
    assert made.test.dice.mean > 0.8
    data, predictor = PreparedData.open(prepared), Predictor.load(folder)
    table = pd.read_csv(report / PER_IMAGE_FILE, dtype={"image_id": str}).set_index("image_id")
    counts = [f"{sign}_{kind}" for sign in ("true", "false") for kind in ("positive", "negative")]
    for row in data.rows("test"):
        truth_HW, predicted_HW = data.mask(row)[:, :LEFT], predictor.mask(data.image(row))[:, :LEFT]
        scores = table.loc[str(data.index["image_id"].iloc[row])]
        assert scores[counts].sum() == SIDE * LEFT
        both = 2 * (truth_HW & predicted_HW).sum() / (truth_HW.sum() + predicted_HW.sum())
        assert scores["dice"] == pytest.approx(both, abs=1e-6)
    assert table.loc[[WHOLLY], ["dice", "accuracy"]].isna().all(axis=None)
    assert not table.loc[[WHOLLY], counts].any(axis=None)
    shown_HW, _ = Thumbnails(report / "thumbnails.zip").masks("02")
    assert (shown_HW[:, LEFT:] == IGNORED).all()
    assert "Hatched pixels are ignored" in (report / "gallery.html").read_text()
