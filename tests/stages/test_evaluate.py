"""The evaluate stage on prepared files and a real network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.per_image import PER_IMAGE_COLUMNS, read_per_image
from segops.contracts.prepared import Prepared
from segops.contracts.tables import INDEX_COLUMNS, write_table
from segops.data.arrays import INDEX, PreparedData
from segops.errors import UserError
from segops.evaluation.intervals import group_interval
from segops.evaluation.metrics import image_scores
from segops.files import sha256_file
from segops.inference.predict import Predictor
from segops.params.evaluate import EvaluateParams
from segops.params.inference import InstanceParams
from segops.params.runtime import RuntimeParams
from segops.pictures.choice import choose_shared
from segops.pictures.thumbnails import Thumbnails
from segops.stages.evaluate import evaluate
from tests.support.small_models import (
    brightness_params,
    brightness_program,
    save_candidate,
)
from tests.support.tiny_prepared import write_prepared

PARAMS = EvaluateParams(gallery_images=1)
RUNTIME = RuntimeParams(threads=2, device="cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("evaluate") / "prepared")


@pytest.fixture(scope="module")
def model(prepared: Path) -> Path:
    folder = prepared.parent / "model"
    save_candidate(folder, brightness_program(), brightness_params(), Prepared.load(prepared), threshold=0.4)
    return folder


@pytest.fixture(scope="module")
def report(prepared: Path, model: Path) -> Path:
    folder = prepared.parent / "report"
    evaluate(PARAMS, RUNTIME, prepared=prepared, model=model, report=folder)
    return folder


def per_image(report: Path) -> pd.DataFrame:
    return pd.read_csv(report / "per_image.csv")


def test_the_headline_holds_the_few_figures_that_dvc_prints(report: Path) -> None:
    evaluation, scores = Evaluation.load(report), json.loads((report / "scores.json").read_text())
    assert list(scores) == ["val", "test"]
    assert list(scores["test"]) == ["dice", "iou", "precision", "recall", "false_positive_share", "hd95_px"]
    assert scores["val"]["dice"] == evaluation.val.dice.mean
    assert scores["test"]["hd95_px"] == evaluation.test.hd95_px


def test_scores_are_those_of_the_predictor_at_native_size(report: Path, prepared: Path, model: Path) -> None:
    data, predictor = PreparedData.open(prepared), Predictor.load(model)
    table = per_image(report)
    assert tuple(table) == PER_IMAGE_COLUMNS
    assert table["subset"].tolist() == ["val"] * 4 + ["test"] * 2
    for row, i in zip(table.to_dict("records"), data.rows("val") + data.rows("test"), strict=True):
        assert (row["height"], row["width"]) == data.mask(i).shape
        for name, value in image_scores(data.mask(i), predictor.mask(data.image(i)), data.meta.classes).items():
            assert row[name] == pytest.approx(value, abs=1e-6), name


def test_distances_are_in_micrometres_too_where_the_pixel_size_is_known(model: Path, tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "prepared", subsets=("train", "val", "val", "test", "test"))
    index = pd.read_parquet(folder / INDEX)
    index.loc[[1, 3, 4], ["spacing_h_mm", "spacing_w_mm"]] = 0.0005
    write_table(index, folder / INDEX, INDEX_COLUMNS)
    meta = Prepared.load(folder).model_copy(update={"index_sha256": sha256_file(folder / INDEX)})
    meta.save(folder)
    save_candidate(tmp_path / "model", brightness_program(), brightness_params(), meta, threshold=0.4)
    evaluate(PARAMS, RUNTIME, prepared=folder, model=tmp_path / "model", report=tmp_path / "report")
    scores, table = Evaluation.load(tmp_path / "report"), read_per_image(tmp_path / "report", meta.classes)
    np.testing.assert_allclose(table["assd_um"], table["assd_px"] / 2 * [1, np.nan, 1, 1], atol=1e-6)
    assert scores.val.micrometres is not None
    assert scores.test.micrometres is not None
    assert scores.test.hd95_px is not None
    assert (scores.val.micrometres.images, scores.test.micrometres.images) == (1, 2)
    assert scores.test.micrometres.hd95_um == pytest.approx(scores.test.hd95_px / 2)
    page = " ".join((tmp_path / "report" / "gallery.html").read_text().split())
    assert "<td>1 of 2: 0.5</td><td>2 of 2: 0.5</td>" in page


def test_calibration_is_that_of_the_pixels(report: Path, prepared: Path, model: Path) -> None:
    data, predictor = PreparedData.open(prepared), Predictor.load(model)
    evaluation = Evaluation.load(report)
    probability = np.concatenate([predictor.foreground(data.image(i)).ravel() for i in data.rows("test")])
    truth = np.concatenate([data.mask(i).ravel() for i in data.rows("test")]) > 0
    bins = evaluation.test.reliability
    inside = [(one.low < probability) & (probability <= one.high) for one in bins]
    inside[0] |= probability == 0
    assert [one.pixels for one in bins] == [int(each.sum()) for each in inside]
    gaps = [abs(probability[each].mean() - truth[each].mean()) * each.mean() for each in inside if each.any()]
    assert evaluation.test.ece == pytest.approx(sum(gaps), abs=1e-6)
    table, pixels = pd.read_csv(report / "curves" / "reliability.csv"), 40 * 40 + 36 * 48
    assert table.groupby("subset", sort=False)["pixels"].sum().tolist() == [2 * pixels, pixels]


def test_without_inference_instances_there_are_no_objects(report: Path) -> None:
    assert Evaluation.load(report).test.instances is None
    assert per_image(report)[["objects", "predicted_objects", "ap", "ap50"]].isna().all(axis=None)


def test_objects_are_matched_where_the_candidate_tells_them_apart(prepared: Path, tmp_path: Path) -> None:
    params = brightness_params()
    inference = params.inference.model_copy(update={"instances": InstanceParams(method="watershed")})
    params = params.model_copy(update={"inference": inference})
    save_candidate(tmp_path / "model", brightness_program(), params, Prepared.load(prepared), threshold=0.4)
    made = evaluate(PARAMS, RUNTIME, prepared=prepared, model=tmp_path / "model", report=tmp_path / "report")
    found, table = made.test.instances, per_image(tmp_path / "report").query("subset == 'test'")
    assert found is not None
    # One disc an image; its Dice above 0.95 is an IoU above 0.9.
    assert (found.objects, found.predicted, found.ap50.mean) == (2, 2, 1.0)
    assert found.by_iou["0.9"] == 1.0
    assert table[["objects", "predicted_objects"]].to_numpy().tolist() == [[1, 1], [1, 1]]
    assert found.ap.mean == pytest.approx(table["ap"].mean(), abs=1e-6)
    curve = pd.read_csv(tmp_path / "report" / "curves" / "instances.csv")
    assert curve.groupby("subset")["ap"].mean()["test"] == pytest.approx(found.ap.mean, abs=1e-6)
    assert "AP of objects, test" in (tmp_path / "report" / "gallery.html").read_text(encoding="utf-8")


def test_bright_discs_are_found(report: Path) -> None:
    evaluation = Evaluation.load(report)
    assert evaluation.test.dice.mean > 0.95
    assert evaluation.test.pr_auc is not None
    assert evaluation.test.pr_auc > 0.99
    assert evaluation.test.hd95_px is not None
    assert evaluation.test.hd95_px < 2


def test_the_summary_is_that_of_the_rows(report: Path, model: Path) -> None:
    evaluation, table = Evaluation.load(report), per_image(report)
    trained = TrainedModel.load(model)
    assert (evaluation.threshold, evaluation.weights_sha256) == (0.4, trained.weights_sha256)
    for scores, subset in ((evaluation.val, "val"), (evaluation.test, "test")):
        rows = table[table["subset"] == subset]
        assert (scores.images, scores.groups) == (len(rows), rows["group_id"].nunique())
        for name in ("dice", "iou", "precision", "recall", "accuracy"):
            found = getattr(scores, name)
            assert found.mean == pytest.approx(rows[name].mean(), abs=1e-6)
            again = group_interval(rows[name].to_numpy(), rows["group_id"].to_numpy(), confidence=PARAMS.confidence)
            assert (found.words(4), found.groups) == (again.words(4), again.groups)
        tp, fp, fn = (rows[name].sum() for name in ("true_positive", "false_positive", "false_negative"))
        assert scores.pooled_dice == pytest.approx(2 * tp / (2 * tp + fp + fn))
        assert scores.hd95_px == pytest.approx(rows["hd95_px"].mean(), abs=1e-6)
        assert set(scores.by_modality) == {"fluorescence"}
    assert evaluation.published is None


def test_curves_are_tables_for_plots(report: Path) -> None:
    heads = {path.name: path.read_text().splitlines()[0] for path in (report / "curves").iterdir()}
    assert heads == {
        "pr.csv": "recall,precision,threshold",
        "roc.csv": "false_positive_rate,true_positive_rate,threshold",
        "threshold.csv": "threshold,val_dice",
        "confusion.csv": "subset,truth,predicted,pixels,share",
        "reliability.csv": "subset,low,high,pixels,confidence,frequency",
        "instances.csv": "subset,iou,ap",
    }
    # The curve passes through what the model's threshold gives on validation.
    by_threshold = pd.read_csv(report / "curves" / "threshold.csv").set_index("threshold")["val_dice"]
    assert by_threshold.loc[0.4] == pytest.approx(Evaluation.load(report).val.dice.mean, abs=1e-6)


def test_the_gallery_reads_offline_and_names_its_images(report: Path) -> None:
    page = (report / "gallery.html").read_text(encoding="utf-8")
    test = per_image(report).query("subset == 'test'")
    assert all(name in page for name in test["image_id"])
    # Image, truth, prediction, errors and confidence; no GradCAM, which of so little training says nothing.
    assert page.count("data:image/png;base64,") == 5 * len(test)
    assert page.count("data:image/jpeg;base64,") == 0
    assert "GradCAM isn't" in page
    assert "http" not in page
    assert "<script" not in page
    for folder in ("predictions", "explanations"):
        assert [path.stem for path in (report / folder).iterdir()] == choose_shared(test, 1)


def test_the_same_input_gives_the_same_bytes_and_other_stages_files_stay(
    report: Path, prepared: Path, model: Path, tmp_path: Path
) -> None:
    again = tmp_path / "report"
    again.mkdir()
    (again / "registration.json").write_text("{}")
    (again / "predictions").mkdir()
    (again / "predictions" / "old.png").write_bytes(b"half-written")
    evaluate(PARAMS, RUNTIME, prepared=prepared, model=model, report=again)
    files = {path.relative_to(report) for path in report.rglob("*") if path.is_file()}
    assert {path.relative_to(again) for path in again.rglob("*") if path.is_file()} == {
        *files,
        Path("registration.json"),
    }
    for path in files - {Path("run.json")}:
        assert (again / path).read_bytes() == (report / path).read_bytes(), path
    record = json.loads((report / "run.json").read_text())
    assert record["stage"] == "evaluate"
    assert record["cost"]["milliseconds_an_image"] > 0
    assert (record["cost"]["height_px"], record["cost"]["device"], record["cost"]["threads"]) == (64, "cpu", 2)


def test_thumbnails_hold_what_was_predicted(report: Path, prepared: Path, model: Path, tmp_path: Path) -> None:
    data, predictor = PreparedData.open(prepared), Predictor.load(model)
    thumbnails = Thumbnails(report / "thumbnails.zip")
    held_out = {data.index["image_id"][i]: i for i in data.rows("val") + data.rows("test")}
    assert thumbnails.image_ids == set(held_out)
    for name, i in held_out.items():  # of small images at native size
        truth_HW, predicted_HW = thumbnails.masks(name)
        assert np.array_equal(truth_HW, data.mask(i))
        assert np.array_equal(predicted_HW, predictor.mask(data.image(i)))
    few = PARAMS.model_copy(update={"thumbnails": 2})
    evaluate(few, RUNTIME, prepared=prepared, model=model, report=tmp_path / "report")
    assert len(Thumbnails(tmp_path / "report" / "thumbnails.zip").image_ids) == 2


def test_the_published_protocol_adds_the_published_evaluation(prepared: Path, tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "prepared", channels=1)
    Prepared.load(folder).model_copy(update={"protocol": "published"}).save(folder)
    params = brightness_params(size=96, channels=1, resize="pad")
    program = brightness_program(size=96, channels=1, resize="pad")
    save_candidate(tmp_path / "model", program, params, Prepared.load(folder))
    made = evaluate(PARAMS, RUNTIME, prepared=folder, model=tmp_path / "model", report=tmp_path / "report")
    assert made == Evaluation.load(tmp_path / "report")
    assert made.published is not None
    # At 256x256 the discs are the same discs: scores lie near those at native size.
    assert made.published.f1 == pytest.approx(made.test.dice.mean, abs=0.02)
    assert made.published.accuracy > 0.98
    assert "The published evaluation" in (tmp_path / "report" / "gallery.html").read_text(encoding="utf-8")


def test_a_model_of_another_split_is_refused(prepared: Path, tmp_path: Path) -> None:
    other = Prepared.load(prepared).model_copy(update={"assignment_sha256": "0" * 64})
    save_candidate(tmp_path / "model", brightness_program(), brightness_params(), other)
    with pytest.raises(UserError, match="trained on another split"):
        evaluate(PARAMS, RUNTIME, prepared=prepared, model=tmp_path / "model", report=tmp_path / "report")
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
