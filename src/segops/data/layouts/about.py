"""Joins what a second table, or the names of folders, say of images: group, modality, subset, pixel size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from segops.contracts.base import SUBSETS
from segops.data.decoders.kinds import image_stem
from segops.data.layouts.csv_rows import PIXEL_SIZE, Row, check_words, find_member, read_pixel_size, read_rows
from segops.data.layouts.names import composed
from segops.data.layouts.pairing import Members, Pair, first
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.progress import counted

COLUMNS: dict[str, tuple[str, ...]] = {
    "group": ("patient", "patient_id", "subject", "subject_id", "case", "case_id", "animal", "slide", "group_id"),
    "modality": (),
    "subset": ("split", "set"),
    **PIXEL_SIZE,
}
_REQUIRED = {"image": ("image_id", "file", "filename", "file_name", "name", "id")}


def joined(pairs: Sequence[Pair], source: Members, params: IngestParams) -> list[Pair]:
    """Return the pairs with what `ingest.subset_folders` and `ingest.about` say of them; the table counts more.

    A row names an image by its file, the file's last parts, or its stem.
    Raises: UserError naming the table, the row, or the images without a row.
    """
    known = [replace(pair, subset=_subset_of_folder(pair.image, params) or pair.subset) for pair in pairs]
    if params.about is None:
        return known
    table = find_member(source, params.about, "ingest.about", params)
    rows = _rows(source.read(table), table)
    rows_of = [next((rows[name] for name in _names(pair.image) if name in rows), None) for pair in known]
    lacking = [pair.image for pair, row in zip(known, rows_of, strict=True) if row is None]
    if lacking:
        raise UserError(f"{table}: no row for {counted(len(lacking), 'image')}: {first(lacking)}; add the rows")
    return [
        replace(
            pair,
            group=row.get("group", pair.group),
            modality=row.get("modality", pair.modality),
            subset=row.get("subset", pair.subset),
            pixel_size_um=size if (size := read_pixel_size(row, f"{table}: {pair.image}")) else pair.pixel_size_um,
        )
        for pair, row in zip(known, rows_of, strict=True)
        if row is not None
    ]


def _rows(content: bytes, table: str) -> Mapping[str, Row]:
    """Return the rows by the image that they name. Raises UserError for two of an image, and for no known column."""
    rows: dict[str, Row] = {}
    for number, row in read_rows(content, table, _REQUIRED, COLUMNS):
        check_words(row, f"{table}: row {number}")
        if not set(COLUMNS) & set(row):
            raise UserError(f"{table}: no column {', '.join(COLUMNS)}; its columns are {', '.join(row)}")
        name = composed(row["image"])
        if rows.setdefault(name, row) is not row:
            raise UserError(f"{table}: row {number}: image {row['image']} has a row already; keep one")
    return rows


def _names(image: str) -> list[str]:
    """Return the names that a row may have for an image, the longest first."""
    path = PurePosixPath(composed(image))
    ends = [PurePosixPath(*path.parts[start:]) for start in range(len(path.parts))]
    return [*(str(end) for end in ends), *(image_stem(str(end)) for end in ends)]


def _subset_of_folder(image: str, params: IngestParams) -> str:
    """Return the subset that the name of a folder of the image says; nothing where none does.

    Raises: UserError where two folders say different ones.
    """
    folders = PurePosixPath(image).parts[:-1]
    said = {params.subset_folders[folder] for folder in folders if folder in params.subset_folders}
    if len(said) > 1:
        raise UserError(f"{image}: ingest.subset_folders puts it into {' and '.join(sorted(said, key=SUBSETS.index))}")
    return next(iter(said), "")
