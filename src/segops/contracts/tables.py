"""Defines the tables that pass between stages: their columns, and how they are read, written and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segops.contracts.base import SUBSETS
from segops.contracts.volumes import SPACING_COLUMNS
from segops.errors import UserError
from segops.files import atomic_path, readable
from segops.params.split import SplitProtocol

if TYPE_CHECKING:
    import pandas as pd

MANIFEST_FILE = "manifest.parquet"

# MANIFEST_FILE: one row per image, sorted by image_id. Intensities are on a full scale of 1, or of int16 and float32
# images in their own units.
MANIFEST_COLUMNS = {
    "image_id": "str",  # unique, no dots, no slashes
    "group_id": "str",
    "shard": "str",
    "given_subset": "str",  # train | val | test, as the data come with it; empty where they don't
    "modality": "str",  # as params or the layout name it, else appearance-<number> | other
    "depth": "int64",  # 1 of pictures
    "height": "int64",
    "width": "int64",
    "spacing_d_mm": "float64",  # of voxels, along depth, height and width; NaN: unknown, as of pictures
    "spacing_h_mm": "float64",
    "spacing_w_mm": "float64",
    "channels": "int64",
    "dtype": "str",  # uint8 | uint16 | int16 | float32
    "mask_height": "int64",
    "mask_width": "int64",
    "image_sha256": "str",  # of the decoded array: dtype, shape and C-order bytes
    "mask_sha256": "str",
    "objects_sha256": "str",  # of the object map; empty where the source tells no objects apart
    "foreground_fraction": "float64",  # of the pixels that aren't ignored
    "ignored_fraction": "float64",  # pixels that belong to no known class
    "classes": "str",  # class indices in the mask, ascending, joined by ' '
    "instances": "int64",  # objects; -1 where the source tells none apart
    "intensity_min": "float64",
    "intensity_max": "float64",
    "intensity_mean": "float64",
    "intensity_std": "float64",
    "saturated_fraction": "float64",  # pixels at full scale in every channel
    "source_image": "str",  # member or relative path
    "source_mask": "str",
}

# Columns that earlier versions didn't write, with what they stand for: such a dataset can still be grown.
MANIFEST_ADDED: dict[str, str | float] = {
    "objects_sha256": "",
    "given_subset": "",
    "ignored_fraction": 0.0,
    "depth": 1,
    **dict.fromkeys(SPACING_COLUMNS, math.nan),
}

SPLIT_FILE = "split.parquet"

# SPLIT_FILE: one row per image, sorted by image_id. fold is 0..folds-1 outside test, -1 in test.
SPLIT_COLUMNS = {"image_id": "str", "group_id": "str", "subset": "str", "fold": "int64"}

# index.parquet: one row per image, sorted by image_id; offsets in bytes.
INDEX_COLUMNS = {
    "image_id": "str",
    "group_id": "str",
    "subset": "str",
    "fold": "int64",
    "modality": "str",
    "depth": "int64",
    "height": "int64",
    "width": "int64",
    "spacing_d_mm": "float64",
    "spacing_h_mm": "float64",
    "spacing_w_mm": "float64",
    "channels": "int64",
    "dtype": "str",
    "image_offset": "int64",
    "mask_offset": "int64",
    "instances": "int64",  # objects; -1 where the source tells none apart
    "objects_offset": "int64",  # -1 where the source tells none apart
    "image_sha256": "str",  # as in the manifest
    "mask_sha256": "str",
    "objects_sha256": "str",
}

DATASET_CARD_FILE = "dataset_card.md"
MODEL_CARD_FILE = "model_card.md"
HISTORY_FILE = "history.csv"
PANELS = "panels"  # folder of a training's GradCAM panels: epoch_<number>/<image id>.png
PANELS_FILE = "panels.json"  # a list of their paths in that folder, [] for none
OUT_OF_FOLD: Literal["out_of_fold"] = "out_of_fold"  # subset of an image's second row, under cross-validation

# predictions.csv: one row per image that `predict` received, in its order.
PREDICTIONS_FILE = "predictions.csv"
PREDICTION_COLUMNS = (
    "image",  # its path below the input folder
    "mask",  # its path below the folder of masks; empty for an image that can't be read
    "height",
    "width",
    "foreground_fraction",  # of the mask
    "confidence",  # mean over pixels: the probability of what is likeliest of each
    "objects",  # empty without inference.instances
    "error",  # why it can't be read
)


def history_columns(parts: Sequence[str] = ()) -> list[str]:
    """Return the columns of history.csv, which has one row per epoch.

    The train columns are of augmented batches under training-mode layers, the val columns at the candidate's input size
    and threshold 0.5, or of several classes the likeliest.

    Args:
        parts: names of the loss's parts, where it is a sum of several.
    """
    losses = [*loss_columns("train", parts), *loss_columns("val", parts)]
    return ["epoch", "learning_rate", *losses, "val_dice", "val_iou", "val_precision", "val_recall"]


def loss_columns(subset: str, parts: Sequence[str]) -> list[str]:
    """Return `<subset>_loss`, and `<subset>_loss_<part>` of each part before its weight."""
    return [f"{subset}_loss", *(f"{subset}_loss_{part}" for part in parts)]


def slugs(names: Sequence[str]) -> list[str]:
    """Turn names into parts of columns and metrics: letters, digits and `_`, lower case, no two alike."""
    plain = [re.sub(r"\W+", "_", name.lower()).strip("_") or "unnamed" for name in names]
    return plain if len(set(plain)) == len(plain) else [f"{index}_{slug}" for index, slug in enumerate(plain)]


def split_assignment(table: pd.DataFrame, protocol: SplitProtocol) -> pd.DataFrame:
    """Check an assignment and return it; every assignment is made so.

    Args:
        table: SPLIT_COLUMNS, one row per image.
        protocol: under `grouped` a group in two subsets, or in two folds, raises ValueError.
    """
    unknown = set(table["subset"]) - set(SUBSETS)
    if unknown:
        raise ValueError(f"unknown subsets {sorted(unknown)}")
    if table["image_id"].duplicated().any():
        raise ValueError("an image stands twice in the split")
    if ((table["fold"] == -1) != (table["subset"] == "test")).any():
        raise ValueError("fold is -1 for test images and only for them")
    if protocol == "grouped":
        values = table.groupby("group_id")[["subset", "fold"]].nunique()
        leaking = values.index[(values > 1).any(axis=1)]
        if len(leaking):
            raise ValueError(f"groups on two sides of a grouped split: {', '.join(map(str, leaking[:5]))}")
    return table


def write_table(table: pd.DataFrame, path: Path, columns: dict[str, str]) -> None:
    """Write a parquet table with exactly `columns`; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"str": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    rows = pa.Table.from_pandas(table[list(columns)], schema=schema, preserve_index=False).replace_schema_metadata()
    with atomic_path(path) as partial:
        pq.write_table(rows, partial, compression="zstd")


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, atomically and by one rule for every such file; scores by image are `six_decimals`.

    A float is the shortest text that reads back as the same number, a missing value is an empty field, lines end by LF.
    """
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")


def six_decimals(table: pd.DataFrame) -> pd.DataFrame:
    """Round the floats of a table, so that the last bits, which the order of a sum decides, aren't written."""
    floats = {str(name): values for name, values in table.items() if values.dtype.kind == "f"}
    return table.assign(**{name: [round(value, 6) for value in values.tolist()] for name, values in floats.items()})


def read_table(path: Path, columns: dict[str, str], *, added: Mapping[str, str | float] | None = None) -> pd.DataFrame:
    """Read a parquet table. Raises UserError when it is missing or its columns differ from `columns`.

    Args:
        added: columns that earlier versions didn't write, with the value that their rows stand for.
    """
    import pyarrow.parquet as pq

    try:
        with readable(path, "parquet file", "delete it and run its stage again"), path.open("rb") as file:
            rows = pq.read_table(file)
            rows.validate(full=True)  # texts too, which pandas decodes later
            table: pd.DataFrame = rows.to_pandas()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that writes it first (`dvc repro`)") from None
    missing = {name: value for name, value in (added or {}).items() if name not in table}
    if missing and set(table.columns) | set(missing) == set(columns):
        table = table.assign(**missing)[list(columns)]
    if list(table.columns) != list(columns):
        differ = sorted(set(table.columns) ^ set(columns))
        raise UserError(f"{path}: columns differ from this version's ({', '.join(differ)}); run its stage again")
    return table
