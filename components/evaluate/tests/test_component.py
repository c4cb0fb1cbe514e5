from __future__ import annotations

import csv
from pathlib import Path

import pytest

from components.evaluate import evaluate
from segops.contracts.evaluation import Evaluation
from segops.contracts.prepared import Prepared
from segops.params.compact import as_text
from segops.params.evaluate import EvaluateParams
from segops.params.runtime import RuntimeParams
from tests.support.component_steps import refused, run_step
from tests.support.small_models import brightness_params, brightness_program, save_candidate
from tests.support.tiny_prepared import write_prepared


def test_scores_confusion_curve_and_gallery_for_kubeflows_pages(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    save_candidate(tmp_path / "model", brightness_program(), brightness_params(), Prepared.load(prepared))
    settings = {
        "params": as_text(EvaluateParams(gallery_images=1)),
        "runtime": as_text(RuntimeParams(threads=1)),
    }
    made = run_step(evaluate, tmp_path, code="", prepared=prepared, model=tmp_path / "model", **settings)
    report = Path(made["report"].path)
    evaluation = Evaluation.load(report)
    scores = made["scores"].metadata
    assert scores["test/dice"] == evaluation.test.dice.mean
    assert scores["val/iou"] == evaluation.val.iou.mean
    assert made["report"].metadata["weights_sha256"] == evaluation.weights_sha256[:12]
    matrix = made["confusion"].metadata["confusionMatrix"]
    assert [spec["displayName"] for spec in matrix["annotationSpecs"]] == ["background", "disc"]
    assert [row["row"] for row in matrix["rows"]] == evaluation.test.confusion
    assert sum(sum(row["row"]) for row in matrix["rows"]) == 40 * 40 + 36 * 48  # pixels of the two test images
    points = made["confusion"].metadata["confidenceMetrics"]
    with (report / "curves" / "roc.csv").open() as file:
        first = next(csv.DictReader(file))
    assert 2 <= len(points) <= 101
    assert points[0]["recall"] == pytest.approx(float(first["true_positive_rate"]))
    assert Path(made["gallery"].path).read_bytes() == (report / "gallery.html").read_bytes()


def test_a_model_of_another_split_is_refused_in_one_line(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    save_candidate(tmp_path / "model", brightness_program(), brightness_params())
    settings = {"params": as_text(EvaluateParams()), "runtime": as_text(RuntimeParams(threads=1))}
    with refused(r"^segops: .*trained on another split"):
        run_step(evaluate, tmp_path, code="", prepared=prepared, model=tmp_path / "model", **settings)
    assert not (tmp_path / "report").exists()
