"""Reading a dataset's manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segops.contracts import Dataset
from segops.errors import UserError
from segops.files import sha256_file
from segops.tables import MANIFEST_COLUMNS, MANIFEST_FILE, read_table

if TYPE_CHECKING:
    import pandas as pd


def read_manifest(dataset: Path) -> tuple[Dataset, pd.DataFrame]:
    """Read `dataset.json` and `manifest.parquet`, a row an image, sorted by image_id.

    Raises:
        UserError: a file is missing or unreadable, or the manifest isn't the one that dataset.json describes.
    """
    about = Dataset.load(dataset)
    path = dataset / MANIFEST_FILE
    manifest = read_table(path, MANIFEST_COLUMNS)
    if sha256_file(path) != about.manifest_sha256:
        raise UserError(f"{path}: differs from what {about.FILE} describes; run `segops ingest` again")
    return about, manifest.sort_values("image_id", ignore_index=True)
