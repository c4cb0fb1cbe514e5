"""Reads the rows of a table inside a source: CSV, or tabs in a `.tsv`."""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from segops.contracts.base import SUBSET_NAMES, SUBSETS
from segops.data.layouts.pairing import Members, describe_names, first
from segops.errors import UserError
from segops.params.ingest import LARGEST_PIXEL_UM, IngestParams

Row = dict[str, str]
PIXEL_SIZE: dict[str, tuple[str, ...]] = {"pixel_size_um": ()}
"""The optional column of a table that `read_pixel_size` reads."""
_WORD = re.compile(r"[A-Za-z0-9_-]+")  # it becomes part of a metric's name
_LARGEST_CELL = 2**30  # run lengths of an object can be long


def find_member(source: Members, name: str, param: str, params: IngestParams) -> str:
    """Return a member, as written or below the single folder that everything is in."""
    roots = {member.partition("/")[0] for member in source.names}
    for member in (name, f"{min(roots)}/{name}"):
        if member in source.names:
            return member
    raise UserError(f"{param}: no member '{name}'; {describe_names(source.names, params)}")


def read_rows(
    content: bytes, name: str, required: Mapping[str, Sequence[str]], optional: Mapping[str, Sequence[str]]
) -> Iterator[tuple[int, Row]]:
    """Yield the number (the header is row 1) and the cells of each row that isn't empty.

    Args:
        required: columns that a row must fill, with other names that they may have.
        optional: columns that a row must fill where the table has them, likewise.

    Raises: UserError naming the table and the row.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text (byte {error.start}); save the table as UTF-8") from None
    csv.field_size_limit(_LARGEST_CELL)
    delimiter = "\t" if name.lower().endswith(".tsv") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = _header([cell.strip() for cell in next(reader, [])], name, required, optional)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, _row(header, cells, {*required, *optional}, f"{name}: row {reader.line_num}")
    except csv.Error as error:
        raise UserError(
            f"{name}: row {reader.line_num}: not a CSV line ({error}); quote the cell or correct it"
        ) from None


def _header(
    header: list[str], name: str, required: Mapping[str, Sequence[str]], optional: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return the columns, known ones under our names. Raises UserError for a missing or a repeated column."""
    if not any(header):
        raise UserError(f"{name}: empty; its first row names the columns, at least {' and '.join(required)}")
    ours = {other: column for column, others in {**required, **optional}.items() for other in others}
    columns = [ours.get(column, column) if ours.get(column) not in header else column for column in header]
    for column in required:
        if column not in columns:
            near = difflib.get_close_matches(column, header, n=1)
            hint = f"did you mean it by '{near[0]}'?" if near else f"its columns are {first(header)}"
            raise UserError(f"{name}: no column '{column}'; {hint}")
    for column in (*required, *optional):
        if columns.count(column) > 1:
            raise UserError(f"{name}: column '{column}' is there twice; keep one")
    return columns


def _row(header: list[str], cells: list[str], filled: set[str], where: str) -> Row:
    """Return a row's cells by column. Raises UserError for a wrong number of cells, or an empty cell that is needed."""
    if len(cells) != len(header):
        raise UserError(f"{where}: {len(cells)} cells, the header has {len(header)}; correct the row")
    row = {column: cell.strip() for column, cell in zip(header, cells, strict=True)}
    for column in header:
        if column in filled and not row[column]:
            raise UserError(f"{where}: column '{column}' is empty; fill it in for every image")
    return row


def read_pixel_size(row: Row, where: str) -> float | Literal["unknown"] | None:
    """Return the pixel size in a row's cell; None where the table has none. Raises UserError for what is no size."""
    cell = row.get("pixel_size_um")
    if cell is None:
        return None
    if cell == "unknown":
        return "unknown"
    try:
        size_um = float(cell)
    except ValueError:
        size_um = math.nan
    if not 0 < size_um <= LARGEST_PIXEL_UM:
        raise UserError(
            f"{where}: pixel_size_um '{cell}' is no number of micrometres above 0 up to {LARGEST_PIXEL_UM:g}; correct "
            "it, or write unknown"
        )
    return size_um


def check_words(row: Row, where: str) -> None:
    """Raise UserError for a modality that can't be part of a metric's name, and a subset that there isn't."""
    if not _WORD.fullmatch(row.get("modality", "none")):
        raise UserError(f"{where}: modality '{row['modality']}' is no word; use letters, digits, '_' and '-'")
    subset = row.get("subset")
    if subset is not None:
        if subset.lower() not in SUBSET_NAMES:
            raise UserError(f"{where}: subset '{subset}' is none of {', '.join(SUBSETS)}; correct it")
        row["subset"] = SUBSET_NAMES[subset.lower()]
