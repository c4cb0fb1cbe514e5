"""Turns shards into flat arrays of native size that are memory-mapped. No stage decodes an image afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segops.contracts.dataset import Dataset
from segops.contracts.part import PartRecord
from segops.contracts.pixels import StoredObject
from segops.contracts.prepared import Prepared
from segops.contracts.split import Split
from segops.contracts.tables import INDEX_COLUMNS, SPLIT_FILE, write_table
from segops.data.arrays import INDEX
from segops.data.decode_shard import PARTS, DecodedShard, ShardDecoder, ShardUnit, shard_units
from segops.data.flat_files import OBJECTS
from segops.data.intensities import channel_intensities
from segops.data.parallel import Part, in_order
from segops.data.part_files import load_parts, save_part
from segops.data.pixel_store import place, save_places
from segops.data.prepared_part import CLASSES, join_files
from segops.errors import UserError, require_space
from segops.files import output_folder, run_record, sha256_file, sha256_lines
from segops.progress import track

if TYPE_CHECKING:
    import pandas as pd


def prepare(*, dataset: Path, split: Path, prepared: Path, workers: int = 1) -> Prepared:
    """Decode every example once into flat arrays.

    Args:
        dataset: the folder that `ingest` wrote.
        split: the folder that `split` wrote, of the same dataset.
        prepared: folder for images.bin, masks.bin, objects.bin (where the source tells objects apart), index.parquet,
            prepared.json and run.json; replaced as a whole. With SEGOPS_PIXEL_STORE the flat files are in a bucket.
        workers: processes that decode shards; the files don't depend on their number.

    Returns: what prepared.json says.
    Raises: UserError: files that don't belong together, a damaged shard, a mask of another size than its image.
    """
    plan = _plan(dataset, split)
    with output_folder(prepared) as folder, run_record(folder, "prepare"):
        if place() is None:
            require_space(prepared, _pixel_bytes(plan.table))
        decoded = _decode(dataset, plan, plan.units, folder, workers)
        result = _join(plan, decoded, folder)
        result.save(folder)
    return result


def prepare_part(*, dataset: Path, split: Path, folder: Path, part: Part, workers: int = 1) -> PartRecord:
    """Decode a range of a dataset's shards: a part of what `prepare` does, which `join_prepared` joins.

    Args:
        folder: for the range's arrays; replaced as a whole.

    Raises: UserError as `prepare`.
    """
    plan = _plan(dataset, split)
    with output_folder(folder) as partial:
        decoded = _decode(dataset, plan, part.of(plan.units), partial, workers)
        return save_part(partial, "prepare", part, plan.work, decoded)


def join_prepared(*, dataset: Path, split: Path, parts: Sequence[Path], prepared: Path) -> Prepared:
    """Join the parts of `prepare_part` to what `prepare` writes, byte by byte.

    Raises: UserError: a part lacks, is damaged, or is of other data.
    """
    plan = _plan(dataset, split)
    ordered = list(load_parts(parts, "prepare", plan.work, CLASSES))
    with output_folder(prepared) as folder, run_record(folder, "prepare"):
        if place() is None:
            require_space(prepared, _pixel_bytes(plan.table))
            join_files([part for part, _ in ordered], folder)
        result = _join(plan, [shard for _, decoded in ordered for shard in decoded], folder)
        result.save(folder)
    return result


class _Plan(NamedTuple):
    """What is to be decoded: manifest and split as a table, and its shards."""

    source: Dataset
    assignment: Split
    table: pd.DataFrame
    units: list[ShardUnit]

    @property
    def work(self) -> str:
        """What names it, so that parts of other work aren't joined."""
        return sha256_lines([self.source.manifest_sha256, self.assignment.assignment_sha256, str(place())])


def _plan(dataset: Path, split: Path) -> _Plan:
    """Read manifest and split. Raises UserError where they are damaged or don't belong together."""
    from segops.data.manifest import read_manifest, read_split

    (source, manifest), (assignment, subsets) = read_manifest(dataset), read_split(split)
    table = _rows(manifest, subsets, split, source, assignment)
    training = table["subset"] == "train"
    numbered = table.assign(training=np.where(training, training.cumsum() - 1, -1))
    units = shard_units((shard.file for shard in source.shards), numbered.to_dict("records"))
    return _Plan(source, assignment, table, units)


def _decode(dataset: Path, plan: _Plan, units: Sequence[ShardUnit], folder: Path, workers: int) -> list[DecodedShard]:
    """Decode shards that follow one another into the folder's flat files, or into a bucket."""
    name = f"{plan.source.manifest_sha256[:12]}-{plan.assignment.assignment_sha256[:12]}"
    training = plan.assignment.subsets["train"].images
    begins = units[0].begins if units else {}
    decoder = ShardDecoder(dataset, folder, place(), name, plan.source.uint16_bits, training, begins)
    if decoder.store is None:
        for file in PARTS.values():
            (folder / file).touch()
    return list(track(in_order(decoder, units, workers), "prepare", total=len(units)))


def _objects(decoded: Sequence[DecodedShard]) -> dict[str, list[StoredObject]]:
    """Return a bucket's objects of several shards, by flat file."""
    return {file: [stored for shard in decoded for stored in shard.objects[file]] for file in PARTS.values()}


def _join(plan: _Plan, decoded: Sequence[DecodedShard], folder: Path) -> Prepared:
    """Write the index of all shards' arrays; return what prepared.json says."""
    from segops.data.manifest import spacings_sha256

    source, assignment, table = plan.source, plan.assignment, plan.table
    offsets = {image_id: places for shard in decoded for image_id, places in shard.offsets.items()}
    values = {image_id: measured for shard in decoded for image_id, measured in shard.values.items()}
    for part in PARTS:
        table[f"{part}_offset"] = [offsets[image_id][part] for image_id in table["image_id"]]
    told_apart = bool((table["instances"] >= 0).any())
    if (uri := place()) is not None:
        save_places(folder, uri, _objects(decoded))
    elif not told_apart:
        (folder / OBJECTS).unlink()
    write_table(table, folder / INDEX, INDEX_COLUMNS)
    return Prepared(
        dataset=source.name,
        source=source.source,
        source_revision=source.source_revision,
        source_sha256=source.source_sha256,
        licence=source.licence,
        dimensions=source.dimensions,
        classes=source.classes,
        class_colours=source.class_colours,
        images=source.images,
        files=source.files,
        uint16_bits=source.uint16_bits,
        stack=source.stack,
        protocol=assignment.protocol,
        manifest_sha256=source.manifest_sha256,
        assignment_sha256=assignment.assignment_sha256,
        test_sha256=assignment.test_sha256,
        images_sha256=sha256_lines(table["image_sha256"]),
        masks_sha256=sha256_lines(table["mask_sha256"]),
        objects_sha256=sha256_lines(table["objects_sha256"]) if told_apart else None,
        spacings_sha256=spacings_sha256(table) if source.dimensions == 3 else None,
        index_sha256=sha256_file(folder / INDEX),
        intensities=channel_intensities(values[name] for name in table["image_id"] if name in values),
    )


def _pixel_bytes(table: pd.DataFrame) -> int:
    """Return the bytes of all images and masks; object maps come on top."""
    item_bytes = table["dtype"].map(lambda name: np.dtype(name).itemsize)
    pixels = table["depth"] * table["height"] * table["width"]
    return int((pixels * (table["channels"] * item_bytes + 1)).sum())


def _rows(
    manifest: pd.DataFrame, subsets: pd.DataFrame, split: Path, source: Dataset, assignment: Split
) -> pd.DataFrame:
    """Join manifest and split, sorted by image id. Raises UserError where they don't belong together."""
    from segops.data.manifest import subset_sha256

    if assignment.manifest_sha256 != source.manifest_sha256:
        raise UserError(f"{split / Split.FILE}: made for another dataset than '{source.name}'; run split again")
    keys = ["image_id", "group_id"]
    if set(manifest[keys].itertuples(index=False)) != set(subsets[keys].itertuples(index=False)):
        raise UserError(f"{split / SPLIT_FILE}: its images and groups are not those of the manifest; run split again")
    merged = manifest.merge(subsets[["image_id", "subset", "fold"]], on="image_id")
    for name, about in assignment.subsets.items():
        if subset_sha256(merged[merged["subset"] == name]) != about.sha256:
            raise UserError(f"{split / SPLIT_FILE}: {name} is not what {Split.FILE} describes; run split again")
    return merged.sort_values("image_id", ignore_index=True)
