"""Turns shards into flat arrays of native size that are memory-mapped. No stage decodes an image afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segops.contracts.dataset import Dataset
from segops.contracts.prepared import Prepared
from segops.contracts.split import Split
from segops.contracts.tables import INDEX_COLUMNS, SPLIT_FILE, write_table
from segops.data.arrays import IMAGES, INDEX, MASKS, OBJECTS, FlatWriter, PreparedData
from segops.data.fingerprint import array_sha256, describe_objects
from segops.data.intensities import channel_intensities
from segops.data.pixel_store import StoreWriter, place
from segops.data.shards import StoredExample, read_examples
from segops.errors import UserError, require_space
from segops.files import output_folder, run_record, sha256_file
from segops.progress import track

if TYPE_CHECKING:
    import pandas as pd


def prepare(*, dataset: Path, split: Path, prepared: Path) -> Prepared:
    """Decode every example once into flat arrays.

    Args:
        dataset: the folder that `ingest` wrote.
        split: the folder that `split` wrote, of the same dataset.
        prepared: folder for images.bin, masks.bin, objects.bin (where the source tells objects apart), index.parquet,
            prepared.json and run.json; replaced as a whole. With SEGOPS_PIXEL_STORE the flat files are in a bucket.

    Returns: what prepared.json says.
    Raises: UserError: files that don't belong together, a damaged shard, a mask of another size than its image.
    """
    from segops.data.manifest import read_manifest, read_split, spacings_sha256

    (source, manifest), (assignment, subsets) = read_manifest(dataset), read_split(split)
    table = _rows(manifest, subsets, split, source, assignment)
    with output_folder(prepared) as folder, run_record(folder, "prepare"):
        if place() is None:
            require_space(prepared, _pixel_bytes(table))
        name = f"{source.manifest_sha256[:12]}-{assignment.assignment_sha256[:12]}"
        hashes = _decode(dataset, table, folder, name)
        write_table(table, folder / INDEX, INDEX_COLUMNS)
        pixels = Prepared(
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
            **hashes,
            spacings_sha256=spacings_sha256(table) if source.dimensions == 3 else None,
            index_sha256=sha256_file(folder / INDEX),
        )
        examples = _training_examples(PreparedData(folder, pixels, table))
        intensities = channel_intensities(examples, assignment.subsets["train"].images)
        result = pixels.model_copy(update={"intensities": intensities})
        result.save(folder)
    return result


def _pixel_bytes(table: pd.DataFrame) -> int:
    """Return the bytes of all images and masks; object maps come on top."""
    item_bytes = table["dtype"].map(lambda name: np.dtype(name).itemsize)
    pixels = table["depth"] * table["height"] * table["width"]
    return int((pixels * (table["channels"] * item_bytes + 1)).sum())


def _decode(dataset: Path, table: pd.DataFrame, folder: Path, name: str) -> dict[str, str | None]:
    """Write all examples into flat files, and their offsets into the table; return the files' hashes by field.

    Args:
        name: of the data, where the files go to a bucket.
    """
    uri = place()
    store = StoreWriter(uri, name) if uri is not None else None
    expected = {row["image_id"]: row for row in table.to_dict("records")}
    with ExitStack() as opened:
        writers = {
            file: FlatWriter(
                opened.enter_context(store.open(file) if store else (folder / file).open("wb")), each=store is not None
            )
            for file in (IMAGES, MASKS, OBJECTS)
        }
        images, masks, objects = writers.values()
        offsets = {}
        for example in track(read_examples(dataset), "prepare", total=len(expected)):
            _check(example, expected, dataset)
            of_objects = -1 if example.objects_HW is None else objects.append(example.objects_HW)
            offsets[example.image_id] = images.append(example.image_HWC), masks.append(example.mask_HW), of_objects
    for position, part in enumerate(("image", "mask", "objects")):
        table[f"{part}_offset"] = [offsets[image_id][position] for image_id in table["image_id"]]
    told_apart = bool((table["instances"] >= 0).any())
    if not told_apart:
        del writers[OBJECTS]
    if store is not None:
        store.save(folder, writers)
    elif not told_apart:
        (folder / OBJECTS).unlink()
    return {
        "images_sha256": images.sha256,
        "masks_sha256": masks.sha256,
        "objects_sha256": objects.sha256 if told_apart else None,
    }


def _training_examples(data: PreparedData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield training images as float32 on the full scale of their type, and masks; other subsets stay unseen."""
    for row in track(data.rows("train"), "intensities"):
        image_HWC = data.image(row)
        yield image_HWC.astype(np.float32) / np.float32(data.full_scale(image_HWC.dtype)), data.mask(row)


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


def _check(example: StoredExample, expected: dict[str, dict[Any, Any]], dataset: Path) -> None:
    """Raise UserError for an example that the manifest doesn't describe, or a mask of another size."""
    image_id, image_HWC, mask_HW = example.image_id, example.image_HWC, example.mask_HW
    row = expected.get(image_id)
    if row is None:
        raise UserError(f"{dataset}: image '{image_id}' is in a shard and not in manifest.parquet; run ingest again")
    objects = describe_objects(example.objects_HW)
    hashes = {"image_sha256": array_sha256(image_HWC), "mask_sha256": array_sha256(mask_HW), **objects}
    if any(row[name] != value for name, value in hashes.items()):
        raise UserError(
            f"{dataset / row['shard']}: '{image_id}' differs from its hash in the manifest; run ingest again"
        )
    if image_HWC.shape[:-1] != mask_HW.shape:
        of_mask, of_image = ("x".join(map(str, size)) for size in (mask_HW.shape, image_HWC.shape[:-1]))
        raise UserError(
            f"{row['source_mask']}: the mask has {of_mask} pixels, its image {of_image}; correct the file and run "
            "ingest again"
        )
