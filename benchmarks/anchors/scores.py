"""Scores all masks by the functions that score candidates, and sets each method beside ours.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.anchors.foreign import mask_of, read_image
from segops.comparison.paired import HALVES, Half, Judged, paired_interval, paired_rows
from segops.contracts.base import SUBSETS
from segops.contracts.per_image import PER_IMAGE_FILE, read_per_image
from segops.contracts.scores import Interval
from segops.data.arrays import PreparedData
from segops.evaluation.intervals import group_interval
from segops.evaluation.metrics import image_scores
from segops.params.compare import CompareParams

if TYPE_CHECKING:
    import pandas as pd


class Comparison(NamedTuple):
    """Holds a method's Dice by subset, and how far ours lies above it."""

    dice: dict[Half, Interval]
    lead: dict[Half, Interval]


def write_pixels(data: PreparedData, folder: Path) -> None:
    """Write the images as RGB, and the masks of training and validation; of test nobody but us sees them."""
    from PIL import Image

    for subset in SUBSETS:
        images = folder / subset / "image"
        if images.exists():
            continue
        unfinished = folder / f"{subset}.part"
        for name in ("image", "mask"):
            (unfinished / name).mkdir(parents=True, exist_ok=True)
        for row in data.rows(subset):
            path = unfinished / "image" / f"{data.index['image_id'].iloc[row]}.png"
            image_HWC = np.broadcast_to(data.image(row), (*data.size(row), 3))
            Image.fromarray(np.ascontiguousarray(image_HWC)).save(path)
            if subset != "test":
                Image.fromarray(data.mask(row)).save(mask_of(path))
        unfinished.rename(folder / subset)


def score_masks(data: PreparedData, folder: Path) -> pd.DataFrame:
    """Return a row for each validation and test image of a method's masks, with its scores, and write it."""
    import pandas as pd

    rows = []
    for subset in HALVES:
        for row in data.rows(subset):
            about = {str(name): value for name, value in data.index.iloc[row].items()}
            mask_HW = read_image(folder / "masks" / subset / f"{about['image_id']}.png")
            rows.append(about | {"subset": subset} | image_scores(data.mask(row), mask_HW, data.meta.classes))
    table = pd.DataFrame(rows)
    table.to_csv(folder / PER_IMAGE_FILE, index=False)
    return table


def read_table(data: PreparedData, folder: Path, name: str) -> pd.DataFrame:
    """Return a finished method's scores by image: a candidate's by `evaluate`, another's by its masks."""
    import pandas as pd

    report = folder / "reports/candidates" / name
    if report.exists():
        return read_per_image(report, data.meta.classes)
    if (folder / PER_IMAGE_FILE).exists():
        return pd.read_csv(folder / PER_IMAGE_FILE, dtype={"image_id": str, "group_id": str, "modality": str})
    return score_masks(data, folder)


def mean_over_seeds(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the first table with each image's Dice the mean over all."""
    ordered = [table.sort_values(["subset", "image_id"], ignore_index=True) for table in tables]
    return ordered[0].assign(dice=np.mean([table["dice"] for table in ordered], axis=0))


def compare(ours: pd.DataFrame, other: pd.DataFrame) -> Comparison:
    """Set a method beside ours, image by image, over groups."""
    params = CompareParams()
    dice: dict[Half, Interval] = {}
    lead: dict[Half, Interval] = {}
    for subset in HALVES:
        rows = paired_rows(Judged("ours", ours), Judged("other", other), subset)
        dice[subset] = group_interval(
            rows["dice_b"].to_numpy(), rows["group_id"].tolist(), confidence=params.confidence
        )
        lead[subset] = paired_interval(rows, params)
    return Comparison(dice, lead)
