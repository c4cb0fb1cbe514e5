"""Reads the layout of a table: a CSV inside the source names images, masks, groups and modalities."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from segops.data.layouts.pairing import MaskRule, Members, Pair, describe_names, first, is_image
from segops.errors import UserError
from segops.params.ingest import CHANNEL, IngestParams

_REQUIRED = ("image", "mask")
_OPTIONAL = ("image_id", "group", "modality")
_MODALITY = re.compile(r"[A-Za-z0-9_-]+")  # it becomes part of a metric's name

Row = dict[str, str]


def table(source: Members, params: IngestParams) -> list[Pair]:
    """Pair images and masks by the rows of `ingest.table`.

    Columns are `image` and `mask`, and where wanted `image_id`, `group`, `modality`; others, and members that no row
    names, are ignored. Paths are relative to the table; with `ingest.stack` an image's holds `{channel}`, or its stem
    lacks the channel's ending. A mask that is a folder holds a mask for each object. Cells are separated by commas, or
    by tabs in a `.tsv`.

    Raises: UserError naming the table and the row (the header is row 1).
    """
    name = _find(source, params)
    folder = name.rpartition("/")[0]
    members = set(source.names)
    pairs: list[Pair] = []
    seen: dict[str, int] = {}
    for number, row in _rows(source.read(name), name):
        where = f"{name}: row {number}"
        image, *stacked = (
            _member(folder, path, members, f"{where}: image") for path in _channel_paths(row["image"], params.stack)
        )
        if image in seen:
            raise UserError(f"{where}: image {row['image']} is in row {seen[image]} already; keep one of the rows")
        seen[image] = number
        masks, rule = _masks(folder, row["mask"], source.names, members, where)
        key = row.get("image_id") or str(PurePosixPath(row["image"].replace(CHANNEL, "")).with_suffix(""))
        pairs.append(Pair(key, image, masks, rule, row.get("group"), row.get("modality"), tuple(stacked)))
    if not pairs:
        raise UserError(f"{name}: a header and no row; add a row for each image")
    return pairs


def _channel_paths(path: str, stack: list[str]) -> list[str]:
    """Return the files of an image, one per channel."""
    if not stack:
        return [path]
    if CHANNEL in path:
        return [path.replace(CHANNEL, text) for text in stack]
    stem, dot, suffix = path.rpartition(".")
    return [f"{stem}{text}{dot}{suffix}" for text in stack]


def _find(source: Members, params: IngestParams) -> str:
    """Return the table's member, as written or below the single folder that everything is in."""
    roots = {name.partition("/")[0] for name in source.names}
    for name in (params.table, f"{min(roots)}/{params.table}"):
        if name in source.names:
            return name
    raise UserError(f"ingest.table: no member '{params.table}'; {describe_names(source.names, params)}")


def _rows(content: bytes, name: str) -> Iterator[tuple[int, Row]]:
    """Yield the number and the checked cells of each row of a CSV that isn't empty."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text (byte {error.start}); save the table as UTF-8") from None
    delimiter = "\t" if name.lower().endswith(".tsv") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        _check_header(header, name)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, _row(header, cells, f"{name}: row {reader.line_num}")
    except csv.Error as error:
        raise UserError(
            f"{name}: row {reader.line_num}: not a CSV line ({error}); quote the cell or correct it"
        ) from None


def _check_header(header: list[str], name: str) -> None:
    """Raise UserError for a header that lacks a required column or names a column twice."""
    if not any(header):
        raise UserError(f"{name}: empty; its first row names the columns, at least image and mask")
    for column in _REQUIRED:
        if column not in header:
            near = difflib.get_close_matches(column, header, n=1)
            hint = f"did you mean it by '{near[0]}'?" if near else f"its columns are {first(header)}"
            raise UserError(f"{name}: no column '{column}'; {hint}")
    for column in (*_REQUIRED, *_OPTIONAL):
        if header.count(column) > 1:
            raise UserError(f"{name}: column '{column}' stands there twice; keep one")


def _row(header: list[str], cells: list[str], where: str) -> Row:
    """Return a row's cells by column. Raises UserError for a wrong number of cells, or an empty cell that is needed."""
    if len(cells) != len(header):
        raise UserError(f"{where}: {len(cells)} cells, the header has {len(header)}; correct the row")
    row = {column: cell.strip() for column, cell in zip(header, cells, strict=True)}
    for column in (*_REQUIRED, *_OPTIONAL):
        if column in row and not row[column]:
            raise UserError(f"{where}: column '{column}' is empty; fill it in for every image")
    if not _MODALITY.fullmatch(row.get("modality", "none")):
        raise UserError(f"{where}: modality '{row['modality']}' is no word; use letters, digits, '_' and '-'")
    return row


def _member(folder: str, path: str, members: set[str], where: str) -> str:
    """Return the member that a cell's path names. Raises UserError where it is missing or no image."""
    name = _joined(folder, path)
    if name not in members:
        raise UserError(f"{where} '{path}' is not in the source; correct the path or add the file")
    if not is_image(name):
        raise UserError(f"{where} '{path}' is not a supported image file; save it as PNG or TIFF")
    return name


def _masks(folder: str, path: str, names: list[str], members: set[str], where: str) -> tuple[tuple[str, ...], MaskRule]:
    """Return the masks of a row: all images of the folder it names, or the file, and the rule to read them by."""
    below = f"{_joined(folder, path)}/"
    objects = tuple(name for name in names if name.startswith(below) and is_image(name))
    if objects:
        return objects, "objects"
    return (_member(folder, path, members, f"{where}: mask"),), "values"


def _joined(folder: str, path: str) -> str:
    """Join a folder and a path without empty parts and dots."""
    parts = [part for part in f"{folder}/{path}".split("/") if part not in ("", ".")]
    return "/".join(parts)
