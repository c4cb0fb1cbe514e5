"""Holds the layouts whose masks are one file of annotations: COCO's JSON, and a table of run lengths."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from segops.data.annotations.coco import CocoFile
from segops.data.annotations.run_lengths import Runs
from segops.data.layouts.csv_rows import find_member, read_rows
from segops.data.layouts.folders import keyed
from segops.data.layouts.names import composed
from segops.data.layouts.pairing import MaskRule, Members, Pair, check_paired, describe_names
from segops.errors import UserError
from segops.params.ingest import IngestParams

RUN_COLUMNS = ("runs", "EncodedPixels", "rle", "encoded_pixels")
CLASS_COLUMNS = ("class", "label", "ClassId")
_IMAGE: dict[str, tuple[str, ...]] = {"image": ("ImageId", "image_id", "Image", "id")}
_CLASS: dict[str, tuple[str, ...]] = {"class": CLASS_COLUMNS[1:]}


def coco(source: Members, params: IngestParams) -> list[Pair]:
    """Pair images with what COCO's JSON `ingest.table` says of them.

    An image is found by its `file_name`, below `ingest.images` or anywhere, or else by its last part.
    Raises: UserError: no such file, damaged JSON, an image of it that isn't there.
    """
    table = find_member(source, params.table, "ingest.table", params)
    return _paired(source, params, table, CocoFile(source.read(table), table).sizes, "coco")


def run_lengths(source: Members, params: IngestParams) -> list[Pair]:
    """Pair images with the rows of the table `ingest.table`: columns image and runs, and class where there are several.

    An image is named by its file or its stem. Raises: UserError naming the table and the row.
    """
    table = find_member(source, params.table, "ingest.table", params)
    return _paired(source, params, table, rows_of_image(source.read(table), table, params), "runs")


def rows_of_image(content: bytes, table: str, params: IngestParams) -> dict[str, list[Runs]]:
    """Return the rows of a table of run lengths by the image that they name."""
    rows: dict[str, list[Runs]] = {}
    several = len(params.classes) > 2
    # Run lengths aren't required of a row: an image without objects has an empty cell.
    for number, row in read_rows(content, table, _IMAGE | (_CLASS if several else {}), {} if several else _CLASS):
        text = next((row[column] for column in RUN_COLUMNS if column in row), None)
        if text is None:
            raise UserError(f"{table}: no column 'runs' of run lengths; its columns are {', '.join(row)}")
        rows.setdefault(row["image"], []).append(Runs(number, row.get("class", params.classes[1]), text))
    return rows


def _paired(source: Members, params: IngestParams, table: str, annotated: Iterable[str], rule: MaskRule) -> list[Pair]:
    """Pair the images that a file of annotations names."""
    images = keyed(source.names, params.images)
    if not images:
        raise UserError(f"no image matches ingest.images '{params.images}'; {describe_names(source.names, params)}")
    places: dict[str, list[str]] = {}
    for name in images:
        path = PurePosixPath(composed(name))
        for part in {
            str(path),
            *(str(PurePosixPath(*path.parts[start:])) for start in range(len(path.parts))),
            path.stem,
        }:
            places.setdefault(part, []).append(name)
    entry_of: dict[str, str] = {}
    absent: list[str] = []
    for entry in annotated:
        found = places.get(composed(entry), [])
        if len(found) > 1:
            raise UserError(f"{table}: image {entry} may be {found[0]} or {found[1]}; name it with its folder")
        if found:
            entry_of[found[0]] = entry
        else:
            absent.append(entry)
    check_paired([name for name in images if name not in entry_of], absent, params)
    return [
        Pair(images[name], name, (table,), rule, group=images[name].rpartition("/")[0] or None, entry=entry)
        for name, entry in entry_of.items()
    ]
