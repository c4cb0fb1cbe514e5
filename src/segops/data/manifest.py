"""Reads a dataset's manifest and its split, and checks each against its hash."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from segops.contracts.dataset import Dataset
from segops.contracts.split import Split
from segops.contracts.tables import (
    MANIFEST_ADDED,
    MANIFEST_COLUMNS,
    MANIFEST_FILE,
    SPLIT_COLUMNS,
    SPLIT_FILE,
    read_table,
    split_assignment,
)
from segops.contracts.volumes import SPACING_COLUMNS
from segops.errors import UserError
from segops.files import sha256_file, sha256_lines

if TYPE_CHECKING:
    import pandas as pd


def read_manifest(dataset: Path) -> tuple[Dataset, pd.DataFrame]:
    """Read `dataset.json` and `manifest.parquet`, one row per image, sorted by image_id.

    Raises:
        UserError: a file is missing or unreadable, or the manifest isn't what dataset.json describes.
    """
    about = Dataset.load(dataset)
    path = dataset / MANIFEST_FILE
    manifest = read_table(path, MANIFEST_COLUMNS, added=MANIFEST_ADDED)
    if sha256_file(path) != about.manifest_sha256:
        raise UserError(f"{path}: differs from what {about.FILE} describes; run `segops ingest` again")
    return about, manifest.sort_values("image_id", ignore_index=True)


def read_split(split: Path) -> tuple[Split, pd.DataFrame]:
    """Read `split.json` and `split.parquet`, SPLIT_COLUMNS, one row per image, sorted by image_id.

    Raises:
        UserError: a file is missing or unreadable, the table isn't what split.json describes, or a group is in two
            subsets of a grouped split.
    """
    about, path = Split.load(split), split / SPLIT_FILE
    table = read_table(path, SPLIT_COLUMNS)
    if assignment_sha256(table) != about.assignment_sha256:
        raise UserError(f"{path}: differs from what {about.FILE} describes; run `segops split` again")
    try:
        return about, split_assignment(table, about.protocol)
    except ValueError as error:
        raise UserError(f"{path}: {error}; run `segops split` again") from None


def assignment_sha256(table: pd.DataFrame) -> str:
    """Return the identity of an assignment: the hash of its SPLIT_COLUMNS' rows in their order."""
    return _rows_sha256(table[list(SPLIT_COLUMNS)])


def subset_sha256(rows: pd.DataFrame) -> str:
    """Return the identity of a subset: a hash of its images' ids and hashes, and of volumes their spacings.

    Equal iff the data are. The pixel size of pictures, whose depth has no spacing, says in which unit distances are
    written and changes no other score, so that it isn't part of the identity.
    """
    content = ["image_id", "image_sha256", "mask_sha256", "objects_sha256"]
    ordered = rows.sort_values("image_id")
    known = ordered[list(SPACING_COLUMNS)].where(ordered[SPACING_COLUMNS[0]].notna())
    spacings = known.map(lambda value: "" if math.isnan(value) else repr(float(value)))
    return _rows_sha256(ordered[content].join(spacings))


def spacings_sha256(rows: pd.DataFrame) -> str:
    """Return a hash of volumes' ids and spacings, in the rows' order."""
    return _rows_sha256(rows[["image_id", *SPACING_COLUMNS]])


def _rows_sha256(rows: pd.DataFrame) -> str:
    """Hash a table's rows, in their order; an empty cell is left out."""
    return sha256_lines(" ".join(filter(None, map(str, row))) for row in rows.itertuples(index=False))
