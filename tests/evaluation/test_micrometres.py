"""Distances in micrometres, with answers by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from segops.contracts.per_image import MICROMETRE_COLUMNS
from segops.evaluation.metrics import image_scores
from segops.evaluation.micrometres import micrometre_scores, summarize_micrometres

CLASSES = ["background", "cell"]


def bar(column: int) -> np.ndarray:
    """A bar as high as the image, 1 px wide."""
    mask_HW = np.zeros((8, 20), np.uint8)
    mask_HW[:, column] = 1
    return mask_HW


@pytest.mark.parametrize(("size_um", "distance_um"), [((0.5, 0.5), 2.0), ((3.0, 0.25), 1.0)])
def test_bars_four_pixels_apart_are_four_widths_apart(size_um: tuple[float, float], distance_um: float) -> None:
    truth_HW, predicted_HW = bar(5), bar(9)
    scores = image_scores(truth_HW, predicted_HW, CLASSES)
    assert scores["hd95_px"] == 4
    row = micrometre_scores(truth_HW, predicted_HW, 2, scores, size_um)
    assert tuple(row) == MICROMETRE_COLUMNS
    assert [row[name] for name in ("hd95_um", "hd_um", "assd_um")] == [distance_um] * 3
    assert (row["pixel_height_um"], row["pixel_width_um"]) == size_um


def test_an_unknown_size_is_in_no_mean_and_is_counted() -> None:
    truth_HW, predicted_HW = bar(5), bar(9)
    scores = image_scores(truth_HW, predicted_HW, CLASSES)
    sizes = [(0.5, 0.5), None, (1.0, 1.0), None]
    table = pd.DataFrame([micrometre_scores(truth_HW, predicted_HW, 2, scores, size) for size in sizes])
    summary = summarize_micrometres(table)
    assert summary is not None
    assert (summary.images, summary.hd95_um, summary.assd_um) == (2, 3.0, 3.0)
    assert summary.words == "0.5 to 1"
    assert summarize_micrometres(table[1:2]) is None
    assert summarize_micrometres(pd.DataFrame({"hd95_px": [4.0]})) is None


def test_a_prediction_without_foreground_has_no_distance_but_a_pixel_size() -> None:
    empty_HW = np.zeros((8, 20), np.uint8)
    row = micrometre_scores(bar(5), empty_HW, 2, image_scores(bar(5), empty_HW, CLASSES), (0.5, 0.5))
    assert np.isnan([row["hd95_um"], row["assd_um"]]).all()
    summary = summarize_micrometres(pd.DataFrame([row]))
    assert summary is not None
    assert (summary.images, summary.hd95_um) == (1, None)
