"""Candidates with chosen scores, as train and evaluate write them, and versions of them in a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.per_image import PER_IMAGE_COLUMNS, class_columns, per_image_columns
from segops.contracts.registration import Registration
from segops.contracts.scores import ClassScores, Interval, SubsetScores
from segops.contracts.tables import history_columns
from segops.contracts.usage import Reference
from segops.files import sha256_lines
from segops.params.colours import colours_by_index
from segops.params.tracking import TrackingParams
from segops.pictures.thumbnails import THUMBNAILS_FILE, ThumbnailWriter
from tests.support.small_models import candidate_params, save_candidate, small_program

TWO_CLASSES = ("background", "nucleus")
TEST_SHA256 = sha256_lines(["test set"])
EPOCHS = 3


@dataclass(frozen=True)
class Folders:
    """Where a project's candidates stand."""

    models: Path
    reports: Path
    comparison: Path


def folders(root: Path) -> Folders:
    """The default places below `root`."""
    return Folders(root / "models/candidates", root / "reports/candidates", root / "reports/comparison")


def write_candidate(
    root: Path,
    name: str,
    *,
    val: Sequence[float] = (0.8, 0.9),
    test: Sequence[float] = (0.7, 0.9),
    test_sha256: str = TEST_SHA256,
    modalities: Sequence[str] = ("fluorescence", "histology"),
    classes: Sequence[str] = TWO_CLASSES,
) -> TrainedModel:
    """Write a candidate with these Dice scores, an image a group, modalities by turns.

    Of several foreground classes the first scores 0.1 more than the image and the last 0.1 less.
    """
    places = folders(root)
    model = save_candidate(
        places.models / name,
        small_program(classes=len(classes)),
        candidate_params(),
        candidate=name,
        classes=list(classes),
        class_colours=colours_by_index(classes, {}),
        rule="fixed" if len(classes) == 2 else "argmax",
        threshold=0.5 if len(classes) == 2 else None,
        key=sha256_lines([name, test_sha256]),
        test_sha256=test_sha256,
        val_dice=float(np.mean(val)),
        epochs=EPOCHS,
    )
    history = [
        [epoch, 1e-3, 1 / epoch, 1.5 / epoch, 0.2 * epoch, 0.1 * epoch, 0.5, 0.5] for epoch in range(1, 1 + EPOCHS)
    ]
    pd.DataFrame(history, columns=history_columns()).to_csv(places.models / name / "history.csv", index=False)
    write_report(places.reports / name, model, val=val, test=test, modalities=modalities)
    return model


def write_report(
    report: Path, model: TrainedModel, *, val: Sequence[float], test: Sequence[float], modalities: Sequence[str]
) -> Evaluation:
    """metrics.json, per_image.csv, thumbnails.zip, and a page, a curve and a triptych."""
    (report / "curves").mkdir(parents=True, exist_ok=True)
    (report / "predictions").mkdir(exist_ok=True)
    table = pd.concat([_rows(name, dices, modalities, model.classes) for name, dices in (("val", val), ("test", test))])
    table.to_csv(report / "per_image.csv", index=False)
    evaluation = Evaluation(
        candidate=model.candidate,
        key=model.key,
        weights_sha256=model.weights_sha256,
        test_sha256=model.test_sha256,
        protocol=model.protocol,
        classes=model.classes,
        threshold=model.threshold,
        confidence=0.95,
        val=_scores(val, modalities, model.classes),
        test=_scores(test, modalities, model.classes),
    )
    evaluation.save(report)
    Reference(
        candidate=model.candidate,
        key=model.key,
        weights_sha256=model.weights_sha256,
        training_images=2,
        validation_images=len(val),
        training_groups=2,
        validation_groups=len(val),
        of_images={"intensity_mean": [0.2, 0.4]},
        of_predictions={"foreground_fraction": [0.1, 0.3], "confidence": [0.8, 0.9]},
    ).save(report)
    (report / "gallery.html").write_text(f"<!DOCTYPE html><title>{model.candidate}</title>")
    (report / "curves" / "pr.csv").write_text("recall,precision\n0.0,1.0\n1.0,0.5\n")
    Image.new("RGB", (24, 8), (200, 80, 40)).save(report / "predictions" / "test00.png")
    write_thumbnails(report / THUMBNAILS_FILE, table)
    (report / "run.json").write_text("{}")
    return evaluation


def write_thumbnails(path: Path, table: pd.DataFrame) -> None:
    """A square on black as every image of a table; the lower its Dice, the more of it the prediction misses."""
    image_HWC, truth_HW = np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48), np.uint8)
    image_HWC[8:24, 8:24], truth_HW[8:24, 8:24] = (200, 120, 180), 1
    with ThumbnailWriter(path, table["image_id"].tolist()) as thumbnails:
        for image_id, dice in zip(table["image_id"], table["dice"], strict=True):
            predicted_HW = truth_HW.copy()
            predicted_HW[:, 8 + round(16 * dice) : 24] = 0
            thumbnails.add(image_id, image_HWC, truth_HW, predicted_HW, confidence_HW=predicted_HW * 0.9)


def write_registration(root: Path, tracking: TrackingParams, name: str, version: int | None) -> None:
    """registration.json of a candidate; None: it missed a floor."""
    report = folders(root).reports / name
    evaluation = Evaluation.load(report)
    Registration(
        candidate=name,
        key=evaluation.key,
        weights_sha256=evaluation.weights_sha256,
        registered=version is not None,
        reason=None if version else "validation Dice 0.1 is below the floor 0.5",
        model_name=tracking.model_name,
        version=version,
        git_commit="c0ffee",
        git_dirty=False,
    ).save(report)


def add_version(root: Path, tracking: TrackingParams, name: str, **scores: Any) -> int:
    """Write a candidate and put its evidence and its weights, without an exported program, behind a version."""
    import shutil
    import tempfile

    from segops.tracking import candidate, registry, store
    from segops.tracking.evidence import file_hashes
    from segops.tracking.model import EVIDENCE, REFERENCE, upload

    model = write_candidate(root, name, **scores)
    places = folders(root)
    client = store.client()
    run = candidate.open_run(client, tracking.experiment, model)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "candidate"
        target.mkdir()
        for file in (places.models / name / "model.json", places.models / name / "weights.safetensors"):
            shutil.copy(file, target)
        for file_name in (*EVIDENCE, REFERENCE):
            shutil.copy(places.reports / name / file_name, target)
        model_id = upload(client, run, model, Path(scratch))
    return registry.create_version(
        client,
        tracking.model_name,
        model,
        run_id=run.info.run_id,
        model_id=model_id,
        tags=file_hashes(places.models / name, places.reports / name),
    )


def _rows(subset: str, dices: Sequence[float], modalities: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame(
        [
            [
                f"{subset}{i:02}", f"group{i:02}", subset, modalities[i % len(modalities)], 64, 64,
                dice, dice / (2 - dice), dice, dice, 0.9, 1.0 if dice else None, 2.0 if dice else None,
                0.5 if dice else None, 10, 1, 1, 100, *[None] * 7,
            ]
            for i, dice in enumerate(dices)
        ],
        columns=list(PER_IMAGE_COLUMNS),
    )  # fmt: skip
    for index, columns in enumerate(class_columns(classes).values()):
        own = [_of_class(dice, index, classes) for dice in dices]
        table[list(columns)] = [(dice, dice / (2 - dice), 11, 11) for dice in own]
    return table[list(per_image_columns(classes))]


def _of_class(dice: float, index: int, classes: Sequence[str]) -> float:
    """Dice of a foreground class in an image."""
    return dice + (0.1 if index == 0 else -0.1 if index == len(classes) - 2 else 0.0)


def _scores(dices: Sequence[float], modalities: Sequence[str], classes: Sequence[str]) -> SubsetScores:
    def around(values: Sequence[float]) -> Interval:
        low, high = (min(values), max(values)) if len(values) > 1 else (None, None)
        return Interval(mean=float(np.mean(values)), low=low, high=high, groups=len(values))

    ious = [dice / (2 - dice) for dice in dices]
    used = list(dict.fromkeys(modalities[i % len(modalities)] for i in range(len(dices))))
    return SubsetScores(
        images=len(dices),
        images_with_foreground=len(dices),
        false_positive_share=None,
        groups=len(dices),
        dice=around(dices),
        iou=around(ious),
        precision=around(dices),
        recall=around(dices),
        accuracy=around([0.9]),
        pooled_dice=float(np.mean(dices)),
        hd95_px=1.0,
        hd_px=2.0,
        assd_px=0.5,
        pr_auc=0.9,
        roc_auc=None,
        by_modality={
            name: around([d for i, d in enumerate(dices) if modalities[i % len(modalities)] == name]) for name in used
        },
        by_class={
            name: ClassScores(
                dice=around([_of_class(dice, index, classes) for dice in dices]),
                iou=around(ious),
                pooled_dice=float(np.mean(dices)),
                pixels=100,
                images=len(dices),
                false_positive_share=None,
            )
            for index, name in enumerate(class_columns(classes))
        },
        confusion=[[100 if row == column else 10 for column in range(len(classes))] for row in range(len(classes))],
        ece=0.0,
        reliability=[],
    )
