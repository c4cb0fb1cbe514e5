"""Reads the layout of a table: a CSV inside the source names images, masks, groups and modalities."""

from __future__ import annotations

from segops.data.decoders.kinds import image_stem
from segops.data.layouts.csv_rows import PIXEL_SIZE, check_words, find_member, read_pixel_size, read_rows
from segops.data.layouts.names import composed
from segops.data.layouts.pairing import MaskRule, Members, Pair, is_image
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.params.layout import CHANNEL
from segops.params.masks import CLASS

_REQUIRED: dict[str, tuple[str, ...]] = {"image": (), "mask": ()}
_OPTIONAL: dict[str, tuple[str, ...]] = {"image_id": (), "group": (), "modality": (), "subset": (), **PIXEL_SIZE}


def table(source: Members, params: IngestParams) -> list[Pair]:
    """Pair images and masks by the rows of `ingest.table`.

    Columns are `image` and `mask`, and where wanted `image_id`, `group`, `modality`, `subset`, `pixel_size_um`; others,
    and members that no row names, are ignored. Paths are relative to the table; with `ingest.stack` an image's holds
    `{channel}`, or its stem lacks the channel's ending. A mask that is a folder holds a mask for each object. Cells are
    separated by commas, or by tabs in a `.tsv`.

    Raises: UserError naming the table and the row (the header is row 1).
    """
    name = find_member(source, params.table, "ingest.table", params)
    folder = name.rpartition("/")[0]
    members = {composed(name): name for name in source.names}
    pairs: list[Pair] = []
    seen: dict[str, int] = {}
    for number, row in read_rows(source.read(name), name, _REQUIRED, _OPTIONAL):
        where = f"{name}: row {number}"
        check_words(row, where)
        image, *stacked = (
            _member(folder, path, members, f"{where}: image") for path in _channel_paths(row["image"], params.stack)
        )
        if image in seen:
            raise UserError(f"{where}: image {row['image']} is in row {seen[image]} already; keep one of the rows")
        seen[image] = number
        masks, rule, indices = _masks(folder, row["mask"], source.names, members, params, where)
        key = row.get("image_id") or image_stem(row["image"].replace(CHANNEL, ""))
        pairs.append(
            Pair(
                key,
                image,
                masks,
                rule,
                row.get("group"),
                row.get("modality"),
                tuple(stacked),
                indices,
                subset=row.get("subset", ""),
                pixel_size_um=read_pixel_size(row, where),
            )
        )
    if not pairs:
        raise UserError(f"{name}: a header and no row; add a row for each image")
    return pairs


def _channel_paths(path: str, stack: list[str]) -> list[str]:
    """Return the files of an image, one per channel."""
    if not stack:
        return [path]
    if CHANNEL in path:
        return [path.replace(CHANNEL, text) for text in stack]
    stem = image_stem(path)
    return [f"{stem}{text}{path.removeprefix(stem)}" for text in stack]


def _member(folder: str, path: str, members: dict[str, str], where: str) -> str:
    """Return the member that a cell's path names. Raises UserError where it is missing or no image."""
    name = members.get(_joined(folder, path))
    if name is None:
        raise UserError(f"{where} '{path}' is not in the source; correct the path or add the file")
    if not is_image(name):
        raise UserError(f"{where} '{path}' is not a supported image file; save it as PNG or TIFF")
    return name


def _masks(
    folder: str, path: str, names: list[str], members: dict[str, str], params: IngestParams, where: str
) -> tuple[tuple[str, ...], MaskRule, tuple[int, ...]]:
    """Return the masks of a row, the rule to read them by, and the class of each where they have one.

    They are all images of the folder that it names, the file, or the files that there are for its classes.
    """
    if params.mask_kind == "one_file_per_class":
        paths = [_joined(folder, path.replace(CLASS, name)) for name in params.classes[1:]]
        there = {index: members[name] for index, name in enumerate(paths, start=1) if name in members}
        if not there:
            raise UserError(f"{where}: mask '{path}' is in the source for no class; correct the path or add a file")
        return tuple(there.values()), "classes", tuple(there)
    below = f"{_joined(folder, path)}/"
    objects = tuple(name for name in names if composed(name).startswith(below) and is_image(name))
    if objects:
        return objects, "objects", ()
    return (_member(folder, path, members, f"{where}: mask"),), "values", ()


def _joined(folder: str, path: str) -> str:
    """Join a folder and a path without empty parts and dots."""
    parts = [part for part in composed(f"{folder}/{path}").split("/") if part not in ("", ".")]
    return "/".join(parts)
