"""Three classes through the whole graph: nuclei (discs) in membranes (rings)."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segops.cli.printing import print_leaderboard
from segops.commands.predict import PredictRequest, predict
from segops.contracts.dataset import Dataset
from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.per_image import per_image_columns
from segops.contracts.prepared import Prepared
from segops.contracts.scores import mean_of
from segops.contracts.tables import slugs
from segops.data.arrays import PreparedData
from segops.evaluation.confusion import class_counts, confusion
from segops.evaluation.metrics import dice, image_dice
from segops.inference.predict import Predictor
from segops.params.candidate import CandidateParams
from segops.params.compare import CompareParams
from segops.params.evaluate import EvaluateParams
from segops.params.register import Floors, RegisterParams
from segops.params.runtime import RuntimeParams
from segops.params.split import SplitParams
from segops.params.tracking import TrackingParams
from segops.params.validate import ValidateParams
from segops.stages.compare import compare
from segops.stages.evaluate import evaluate
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.register import register
from segops.stages.split import split
from segops.stages.train import train
from segops.stages.validate import validate
from tests.support.factories import ingest_params, make_cells
from tests.support.mlflow_server import AWAY

pytest_plugins = ["tests.support.mlflow_stores"]

CLASSES = ["background", "membrane", "nucleus"]
COLOURS = ["#000000", "#0072b2", "#e69f00"]
RUNTIME = RuntimeParams(threads=2, device="cpu")
CANDIDATE = CandidateParams.model_validate(
    {
        "model": {"architecture": "unet", "base_filters": 8, "depth": 2},
        "input": {"size": 48, "channels": 1},
        "recipe": {
            "epochs": 2,
            "batch_size": 2,
            "loss": {"name": "bce"},
            "learning_rate": 0.02,
            "ema_decay": None,
            "precision": "fp32",
        },
    }
)


@dataclass(frozen=True)
class Ran:
    """What the stages up to evaluate gave."""

    root: Path
    model: TrainedModel
    evaluation: Evaluation

    @property
    def report(self) -> Path:
        return self.root / "reports" / "cells"

    @property
    def model_folder(self) -> Path:
        return self.root / "models" / "cells"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    root = tmp_path_factory.mktemp("cells")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(root))
        patch.setenv("MLFLOW_TRACKING_URI", AWAY)  # away while training
        params = ingest_params(
            make_cells(root / "raw", n=24),
            mask_values={0: "background", 128: "membrane", 255: "nucleus"},
            class_colours={"membrane": "#0072B2", "nucleus": "#e69f00"},
        )
        ingest(params, dataset=root / "dataset")
        validate(ValidateParams(), dataset=root / "dataset", report=root / "validation")
        split(SplitParams(), dataset=root / "dataset", report=root / "validation", split=root / "split")
        prepare(dataset=root / "dataset", split=root / "split", prepared=root / "prepared")
        model = train(
            "cells", CANDIDATE, RUNTIME, TrackingParams(), prepared=root / "prepared", model=root / "models/cells"
        )
    evaluation = evaluate(
        EvaluateParams(gallery_images=1), RUNTIME,
        prepared=root / "prepared", model=root / "models/cells", report=root / "reports/cells",
    )  # fmt: skip
    return Ran(root, model, evaluation)


def test_classes_and_colours_reach_the_model(ran: Ran) -> None:
    assert Dataset.load(ran.root / "dataset").class_colours == COLOURS
    assert Prepared.load(ran.root / "prepared").class_colours == COLOURS
    assert (ran.model.classes, ran.model.class_colours) == (CLASSES, COLOURS)
    assert (ran.model.threshold, ran.model.shown_rule) == (None, "argmax")


def test_dice_on_validation_is_that_of_the_evaluation(ran: Ran) -> None:
    assert 0.2 < ran.model.val_dice < 1
    assert ran.model.val_dice == pytest.approx(ran.evaluation.val.dice.mean, abs=1e-6)


def test_scores_are_those_of_the_likeliest_class(ran: Ran) -> None:
    data, predictor = PreparedData.open(ran.root / "prepared"), Predictor.load(ran.model_folder)
    pairs = [(data.mask(i), predictor.probability(data.image(i)).argmax(axis=0)) for i in data.rows("test")]
    scores = ran.evaluation.test
    assert scores.dice.mean == pytest.approx(np.mean([image_dice(*pair, 3) for pair in pairs]), abs=1e-6)
    matrix = sum((confusion(*pair, 3) for pair in pairs), np.zeros((3, 3), np.int64))
    assert scores.confusion == matrix.tolist()
    assert list(scores.by_class) == CLASSES[1:]
    pooled = dice(*class_counts(matrix))
    for index, name in enumerate(CLASSES[1:], start=1):
        own = scores.by_class[name]
        assert own.pooled_dice == pytest.approx(pooled[index - 1])
        assert own.pixels == sum((truth == index).sum() for truth, _ in pairs)
        assert own.images == len(pairs)
    means = [own.dice.mean for own in scores.by_class.values() if own.dice]
    assert scores.dice.mean == pytest.approx(np.mean(means), abs=1e-6)


def test_tables_have_columns_by_class(ran: Ran) -> None:
    table = pd.read_csv(ran.report / "per_image.csv")
    assert tuple(table) == per_image_columns(CLASSES)
    assert tuple(table)[-8:] == (
        "dice_membrane", "iou_membrane", "pixels_membrane", "predicted_pixels_membrane",
        "dice_nucleus", "iou_nucleus", "pixels_nucleus", "predicted_pixels_nucleus",
    )  # fmt: skip
    assert table["dice"].to_numpy() == pytest.approx(table[["dice_membrane", "dice_nucleus"]].mean(axis=1), abs=1e-6)
    confused = pd.read_csv(ran.report / "curves" / "confusion.csv")
    test = confused[confused["subset"] == "test"]
    assert test["pixels"].to_numpy().reshape(3, 3).tolist() == ran.evaluation.test.confusion
    assert test.groupby("truth")["share"].sum().to_numpy() == pytest.approx(1, abs=1e-5)


def test_the_gallery_shows_classes_in_their_colours(ran: Ran) -> None:
    page = (ran.report / "gallery.html").read_text(encoding="utf-8")
    assert "argmax" in page
    assert page.count(f"background: {COLOURS[1]}") == page.count(f"background: {COLOURS[2]}") == 2  # table, legend
    assert "foreground against background" in page
    data = PreparedData.open(ran.root / "prepared")
    [path, *_] = sorted((ran.report / "predictions").iterdir())
    shown = np.asarray(Image.open(path))
    truth = data.mask(data.index["image_id"].tolist().index(path.stem))
    assert shown[:, 52:100].tolist() == np.array([[0, 0, 0], [0, 114, 178], [230, 159, 0]])[truth].tolist()


def test_predicted_masks_hold_indices_and_show_colours(ran: Ran, tmp_path: Path) -> None:
    image = ran.root / "raw/images/000.png"
    written = predict(
        PredictRequest(
            str(ran.model_folder), RUNTIME, TrackingParams(), inputs=[image], out=tmp_path / "out", overlays=True
        )
    )
    expected = Predictor.load(ran.model_folder).mask(np.asarray(Image.open(image))[..., None])
    with Image.open(written[0]) as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.asarray(mask), expected)
        shown = np.array([(0, 0, 0), (0, 114, 178), (230, 159, 0)])[expected]
        assert np.array_equal(np.asarray(mask.convert("RGB")), shown)
    assert written[1].name == "000.overlay.png"


def test_predicted_masks_can_be_ingested_again(ran: Ran, tmp_path: Path) -> None:
    predict(PredictRequest(
        str(ran.model_folder), RUNTIME, TrackingParams(),
        inputs=[ran.root / "raw/images"], out=tmp_path / "masks", overlays=False))  # fmt: skip
    (tmp_path / "images").symlink_to(ran.root / "raw/images")
    params = ingest_params(tmp_path, mask_values=dict(enumerate(CLASSES)))
    assert ingest(params, dataset=tmp_path / "again").images == 24


def test_versions_and_leaderboard_show_classes(
    ran: Ran, file_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = TrackingParams()
    params = RegisterParams(floors=Floors(dice=0.0, iou=0.0))
    made = register(params, tracking, model=ran.model_folder, report=ran.report)
    assert made.version == 1
    comparison = compare(
        CompareParams(), tracking, ["cells"],
        reports=ran.root / "reports", models=ran.root / "models", comparison=tmp_path / "comparison",
    )  # fmt: skip
    [standing] = comparison.standings
    assert standing.test_class_dice["nucleus"] == mean_of(ran.evaluation.test.by_class["nucleus"].dice)
    [row] = csv.DictReader((tmp_path / "comparison/leaderboard.csv").open(newline=""))
    assert float(row["val_class_dice_membrane"]) == mean_of(ran.evaluation.val.by_class["membrane"].dice)
    page = (tmp_path / "comparison/index.html").read_text(encoding="utf-8")
    assert "Dice by class" in page
    assert "the mean over\nmembrane, nucleus" in page
    print_leaderboard(comparison)
    assert f"cells, validation Dice by class: membrane {standing.val_class_dice['membrane']:.4f}, nucleus" in (
        capsys.readouterr().out
    )
    assert json.loads((ran.report / "registration.json").read_text())["registered"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["myelin", "axon"], ["myelin", "axon"]),
        (["Schwann cell (outer)", "髄鞘"], ["schwann_cell_outer", "髄鞘"]),
        (["a b", "a-b"], ["0_a_b", "1_a_b"]),
        (["?", "x"], ["unnamed", "x"]),
    ],
)
def test_names_become_parts_of_columns_without_clashes(names: list[str], expected: list[str]) -> None:
    assert slugs(names) == expected
