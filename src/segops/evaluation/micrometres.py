"""Distances of pictures in micrometres, of those whose pixel size is known. Axes: H height, W width."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import Any

import numpy.typing as npt
import pandas as pd

from segops.contracts.per_image import DISTANCES, MICROMETRE_COLUMNS
from segops.contracts.pixel_size import PixelSize
from segops.contracts.scores import MicrometreScores
from segops.evaluation.metrics import mean_distances

Mask = npt.NDArray[Any]


def micrometre_scores(
    truth_HW: Mask, predicted_HW: Mask, classes: int, scores: Mapping[str, float], size_um: PixelSize | None
) -> dict[str, float]:
    """Compute MICROMETRE_COLUMNS of a picture; all are NaN where its pixel size isn't known.

    Args:
        scores: the picture's `image_scores`, at the size that the pixels are of.
    """
    own = dict.fromkeys(MICROMETRE_COLUMNS, nan)
    if size_um is None:
        return own
    height_um, width_um = size_um
    if height_um == width_um:
        distances = {name: scores[f"{name}_px"] * height_um for name in DISTANCES}
    else:
        distances = mean_distances(truth_HW, predicted_HW, classes, size_um)._asdict()
    sides = {"pixel_height_um": height_um, "pixel_width_um": width_um}
    return own | sides | {f"{name}_um": value for name, value in distances.items()}


def summarize_micrometres(table: pd.DataFrame) -> MicrometreScores | None:
    """Summarize the columns in micrometres of a subset; None where no picture's pixel size is known.

    Args:
        table: a row a picture, with MICROMETRE_COLUMNS where the pixel size of some picture of the data set is known.
    """
    if "pixel_height_um" not in table:
        return None
    known = table.dropna(subset="pixel_height_um")
    means = {f"{name}_um": known[f"{name}_um"].mean() for name in DISTANCES}
    return MicrometreScores.of(
        zip(known["pixel_height_um"], known["pixel_width_um"], strict=True),
        **{name: None if pd.isna(mean) else round(float(mean), 9) for name, mean in means.items()},
    )
