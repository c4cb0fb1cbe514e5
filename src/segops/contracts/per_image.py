"""Defines the table of scores by image: its columns, and how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from segops.contracts.tables import slugs
from segops.errors import UserError
from segops.files import readable

if TYPE_CHECKING:
    import pandas as pd

PER_IMAGE_FILE = "per_image.csv"

# per_image.csv: one row per image of val and test, sorted by subset (val first), then image_id; under cross-validation
# also one row per image outside test, judged out of fold, whose subset is OUT_OF_FOLD. Scores are means over the
# foreground classes that truth or prediction has; an empty field where that is none. `per_image_columns` adds each
# class's own; rows of volumes have VOLUME_COLUMNS too, those of pictures may have MICROMETRE_COLUMNS.
PER_IMAGE_COLUMNS = (
    "image_id",
    "group_id",
    "subset",
    "modality",
    "height",
    "width",
    "dice",
    "iou",
    "precision",
    "recall",
    "accuracy",  # share of pixels with the right class
    "hd95_px",  # over the foreground classes that truth and prediction both have; empty where there is none
    "hd_px",  # maximum Hausdorff distance
    "assd_px",
    "true_positive",  # pixels of foreground, whatever its class, against background
    "false_positive",
    "false_negative",
    "true_negative",
    "objects",  # of the truth, as InstanceScores.truth says; this and those below are empty without inference.instances
    "predicted_objects",
    "ap",  # average precision of objects, mean over IoU 0.5, 0.55, ..., 0.95
    "ap50",  # at IoU 0.5
    "pq",  # panoptic quality of objects
    "splits",  # true objects that are predicted as several
    "merges",  # predicted objects that join several true ones
)
# Further columns where the rows are of volumes: those in mm and ml are empty where a volume's spacing isn't known. The
# distances in pixels are empty where it is, since voxels have no side.
VOLUME_COLUMNS = (
    "depth",
    "hd95_mm",
    "hd_mm",
    "assd_mm",
    "surface_dice",  # at evaluate.surface_tolerance_mm, over the foreground classes that truth or prediction has
    "truth_ml",  # of all foreground
    "predicted_ml",
)
DISTANCES = ("hd95", "hd", "assd")
# Further columns where the rows are of pictures and the pixel size of some is known; empty where it isn't.
MICROMETRE_COLUMNS = ("pixel_height_um", "pixel_width_um", *(f"{name}_um" for name in DISTANCES))
# Columns that earlier versions didn't write; they are empty where a version was registered before.
PER_IMAGE_ADDED = ("pq", "splits", "merges")


class ClassColumns(NamedTuple):
    """The columns of per_image.csv that belong to a foreground class."""

    dice: str
    iou: str
    pixels: str
    predicted_pixels: str


def class_columns(classes: Sequence[str]) -> dict[str, ClassColumns]:
    """Return the columns of per_image.csv of each foreground class by its name; none for two classes.

    Args:
        classes: names by index, background first.
    """
    if len(classes) == 2:
        return {}
    parts = ClassColumns._fields
    return {
        name: ClassColumns(*(f"{part}_{slug}" for part in parts))
        for name, slug in zip(classes[1:], slugs(classes[1:]), strict=True)
    }


def per_image_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of per_image.csv: of more than two classes also those of `class_columns`."""
    return (*PER_IMAGE_COLUMNS, *(column for own in class_columns(classes).values() for column in own))


def read_per_image(folder: Path, classes: Sequence[str]) -> pd.DataFrame:
    """Read a folder's per_image.csv.

    Raises UserError when it is missing or lacks these classes' `per_image_columns`.
    """
    import pandas as pd

    path = folder / PER_IMAGE_FILE
    try:
        with readable(path, "CSV table", "run evaluate again (`dvc repro`)"):
            table = pd.read_csv(path, dtype={"image_id": str, "group_id": str, "subset": str, "modality": str})
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run evaluate again (`dvc repro`)") from None
    columns = per_image_columns(classes)
    if "depth" in table:
        columns = (*columns, *VOLUME_COLUMNS)
    elif MICROMETRE_COLUMNS[0] in table:
        columns = (*columns, *MICROMETRE_COLUMNS)
    if tuple(table.columns) == tuple(name for name in columns if name not in PER_IMAGE_ADDED):
        table = table.reindex(columns=list(columns))
    if tuple(table.columns) != columns:
        differ = ", ".join(sorted(set(table.columns) ^ set(columns)))
        raise UserError(f"{path}: columns differ from this version's ({differ}); run evaluate again (`dvc repro`)")
    return table
