"""The pictures of a candidate's run in MLflow, few and the same kinds for all: test images, curves, confusion."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.per_image import read_per_image
from segops.pictures.choice import choose_examples, choose_shared
from segops.pictures.images import Picture, class_error_map, error_map, overlay, png
from segops.pictures.montage import Cell, montage
from segops.pictures.thumbnails import THUMBNAILS_FILE, Thumbnails
from segops.reports.charts.candidate import curves_chart
from segops.reports.charts.confusion import confusion_chart
from segops.tracking.pictures import SECTION, RunPicture

if TYPE_CHECKING:
    import pandas as pd

_SAME, _EACH = 2, 1  # images of the montage that all candidates have, and of each candidate's own kinds
_SIDE_PX, _CONFUSION_PX = 256, 480
_ERRORS = {
    True: "Rims: truth. Orange predicted alone, blue truth alone, grey both.",
    False: "Rims: truth. Wrong pixels in the predicted class's colour, right ones dim.",
}


def run_pictures(model: Path, report: Path, evaluation: Evaluation) -> Iterator[RunPicture]:
    """Draw a candidate's pictures from the files that train and evaluate wrote, each under its key in all runs."""
    if (examples := _examples(TrainedModel.load(model), report, evaluation)) is not None:
        yield RunPicture(f"{SECTION}/test", png(examples))
    if (curves := curves_chart(report / "curves")) is not None:
        yield RunPicture(f"{SECTION}/curves", curves)
    yield RunPicture(f"{SECTION}/confusion", png(_confusion(evaluation)))


def _examples(model: TrainedModel, report: Path, evaluation: Evaluation) -> Picture | None:
    """Lay out test images: a few that all candidates of a test set share, then the worst, median and best by Dice."""
    thumbnails = Thumbnails(report / THUMBNAILS_FILE)
    table = read_per_image(report, evaluation.classes)
    table = table[(table["subset"] == "test") & table["image_id"].isin(thumbnails.image_ids)]
    chosen = {"Same for all": choose_shared(table, _SAME), **choose_examples(table, _EACH)}
    rows = [[_cell(name, row, thumbnails, model)] for name, ids in chosen.items() for row in _rows(table, ids)]
    return montage(rows, _SIDE_PX, _ERRORS[len(model.class_colours) == 2]) if rows else None


def _rows(table: pd.DataFrame, image_ids: list[str]) -> list[dict[str, object]]:
    """Return the table's rows of images, in their order."""
    return [
        {str(name): value for name, value in row.items()}
        for row in table.set_index("image_id", drop=False).loc[image_ids].to_dict("records")
    ]


def _cell(name: str, row: dict[str, object], thumbnails: Thumbnails, model: TrainedModel) -> Cell:
    """Draw an image with the rims of its truth, and its errors."""
    image_id, colours = str(row["image_id"]), model.class_colours
    truth_HW, predicted_HW = thumbnails.masks(image_id)
    with Image.open(BytesIO(thumbnails.image(image_id))) as opened:
        image_HW3 = np.asarray(opened.convert("RGB"), np.uint8)
    two = len(colours) == 2
    errors = error_map(truth_HW, predicted_HW) if two else class_error_map(truth_HW, predicted_HW, colours)
    shown = [overlay(image_HW3, truth_HW, colours, opacity=0), errors]
    return Cell(f"{name}: Dice {row['dice']:.3f}, {image_id}", shown, [False, True])


def _confusion(evaluation: Evaluation) -> Picture:
    """Lay the confusion of validation beside that of test."""
    cells = []
    for name, scores in evaluation.subsets.items():
        chart = confusion_chart(scores.confusion, evaluation.classes, f"{evaluation.candidate}, {name}")
        with Image.open(BytesIO(chart)) as opened:
            cells.append(Cell("", [np.asarray(opened.convert("RGB"), np.uint8)], [False]))
    return montage([[cell] for cell in cells], _CONFUSION_PX)
