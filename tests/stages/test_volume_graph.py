"""The whole graph on synthetic volumes, as slices and as volumes: trained, scored by patient, registered, compared."""

from __future__ import annotations

import gzip
import json
import re
from math import prod
from pathlib import Path

import numpy as np
import pytest

from segops.commands.drift import drift
from segops.contracts.comparison import Comparison
from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.per_image import VOLUME_COLUMNS, read_per_image
from segops.data.arrays import PreparedData
from segops.data.sources.organs import Organs
from segops.data.volumes.nifti import open_nifti
from segops.evaluation.metrics import image_dice
from segops.inference.predict import Predictor
from segops.params.drift import DriftParams
from segops.params.register import RegisterParams
from segops.stages.compare import compare
from segops.stages.evaluate import evaluate
from segops.stages.register import register
from segops.stages.train import train
from tests.support.volume_files import write
from tests.support.volume_runs import prepare_volumes, project

pytest_plugins = ["tests.support.mlflow_stores"]
pytestmark = pytest.mark.timeout(900)  # nine stages and the imports of all of them, once

PARAMS = project()
NAMES = list(PARAMS.candidates)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A folder in which every stage has run, with a store of its own."""
    import shutil

    folder = tmp_path_factory.mktemp("organs")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        prepared = prepare_volumes(PARAMS, folder)
        for name, candidate in PARAMS.candidates.items():
            model, report = folder / "models" / name, folder / "reports" / "candidates" / name
            train(name, candidate, PARAMS.runtime, PARAMS.tracking, prepared=prepared, model=model)
            evaluate(PARAMS.evaluate, PARAMS.runtime, prepared=prepared, model=model, report=report)
            # A program's export takes seconds: the slices' candidate, an image's program, misses its floor.
            floors = {"dice": 0.0, "iou": 0.0} if name == "volumes" else {"dice": 1.0, "iou": 1.0}
            register(RegisterParams(floors=floors), PARAMS.tracking, model=model, report=report)
        compare(
            PARAMS.compare,
            PARAMS.tracking,
            NAMES,
            reports=folder / "reports" / "candidates",
            models=folder / "models",
            comparison=folder / "reports" / "comparison",
        )
    return folder


def report(ran: Path, name: str) -> Path:
    return ran / "reports" / "candidates" / name


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_of_volumes_in_their_own_grid(ran: Path, name: str) -> None:
    data, predictor = PreparedData.open(ran / "prepared"), Predictor.load(ran / "models" / name)
    table = read_per_image(report(ran, name), data.meta.classes).set_index("image_id")
    assert len(table) == len(data.rows("val")) + len(data.rows("test"))
    row = data.rows("test")[0]
    mask_DHW = predictor.mask(data.image(row), data.spacing_mm(row))
    assert mask_DHW.shape == data.size(row)
    scored = table.loc[data.index["image_id"][row]]
    assert scored["dice"] == pytest.approx(image_dice(data.mask(row), mask_DHW, 3), abs=1e-6)
    voxel_ml = prod(data.spacing_mm(row) or ()) / 1000
    assert scored["truth_ml"] == pytest.approx((data.mask(row) > 0).sum() * voxel_ml, abs=1e-6)
    assert scored["predicted_ml"] == pytest.approx((mask_DHW > 0).sum() * voxel_ml, abs=1e-6)
    assert set(VOLUME_COLUMNS) <= set(table.columns)
    assert table["hd95_px"].isna().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_report_has_millimetres_millilitres_and_slices_to_scroll_through(ran: Path, name: str) -> None:
    evaluation = Evaluation.load(report(ran, name))
    assert evaluation.test.volumes is not None
    assert set(evaluation.test.volumes.volume_ml) == {"liver", "kidney"}
    page = (report(ran, name) / "gallery.html").read_text()
    assert "Surface Dice at 1 mm" in page
    assert page.count('alt="slice ') == 8 * 3  # of the worst, the median and the best volume
    assert "<script" not in page
    rows = read_per_image(report(ran, name), evaluation.classes).query("truth_ml > 0 or predicted_ml > 0")
    for of_class in ("liver", "kidney"):
        plot = page.split(f'aria-label="Prediction minus truth of {of_class} ')[1].split("</svg>")[0]
        drawn = rows[(rows[f"pixels_{of_class}"] > 0) | (rows[f"predicted_pixels_{of_class}"] > 0)]
        assert sorted(re.findall(r"<title>(\S+): truth", plot)) == sorted(drawn["image_id"])
        assert len(drawn) > 1
    assert "mm" in json.dumps(json.loads((report(ran, name) / "scores.json").read_text()))


def test_slices_and_volumes_are_compared_paired_by_patient(ran: Path) -> None:
    comparison = Comparison.load(ran / "reports" / "comparison")
    data = PreparedData.open(ran / "prepared")
    (difference,) = [pair for pair in comparison.differences if pair.subset == "test"]
    assert {difference.a, difference.b} == set(NAMES)
    assert difference.images == len(data.rows("test"))
    assert difference.groups == data.index["group_id"].iloc[data.rows("test")].nunique() < difference.images


def test_the_registered_program_is_the_one_that_was_scored(ran: Path) -> None:
    from segops.tracking.store import import_mlflow

    mlflow = import_mlflow()
    client = mlflow.MlflowClient(f"sqlite:///{ran / 'mlflow.db'}")
    name = "volumes"
    (version,) = client.search_model_versions("name = 'organs'")
    assert version.tags["candidate"] == name
    trained = TrainedModel.load(ran / "models" / name)
    assert version.tags["weights_sha256"] == trained.weights_sha256
    metrics = client.get_run(version.run_id).data.metrics
    assert metrics["test/surface_dice"] == pytest.approx(
        Evaluation.load(report(ran, name)).test.volumes.surface_dice.mean  # type: ignore[union-attr]
    )
    assert {"test/hd95_mm", "test/volume_bias_ml_liver"} <= set(metrics)
    assert "gallery.html" in {Path(file.path).name for file in client.list_artifacts(version.run_id, "report")}


@pytest.mark.parametrize("name", NAMES)
def test_new_volumes_are_compared_with_those_of_training(ran: Path, name: str, tmp_path: Path) -> None:
    new, brighter = tmp_path / "new", tmp_path / "brighter"
    for path, content in Organs(n=12, size=24, depth=8, seed=8).members():
        if path.startswith("images/"):
            write(new / path, content)
            given = open_nifti(gzip.decompress(content) if path.endswith(".gz") else content)
            array = np.asarray(given.dataobj) + np.int16(150)
            write(brighter / path.removesuffix(".gz"), type(given)(array, given.affine, given.header).to_bytes())
    places = {"report": tmp_path / "drift", "reference": report(ran, name)}
    model = str(ran / "models" / name)
    same = drift(model, DriftParams(), PARAMS.runtime, PARAMS.tracking, images=new, **places)
    assert not {"intensity_mean", "intensity_std", "intensity_p01", "intensity_p99"} & set(same.drifted)
    shifted = drift(model, DriftParams(), PARAMS.runtime, PARAMS.tracking, images=brighter, **places)
    assert {"intensity_mean", "intensity_p01"} <= set(shifted.drifted)
    assert (tmp_path / "drift/index.html").read_text().count("data:image/") >= len(shifted.unusual) > 0
