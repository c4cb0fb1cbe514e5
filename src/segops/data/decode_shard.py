"""Decodes a shard's examples into its stretches of flat files: the unit in which `prepare` works.

Where a shard's arrays begin follows from the manifest, so that shards are decoded by any process in any order and the
files are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from segops.contracts.pixels import StoredObject
from segops.data.fingerprint import array_sha256, describe_objects
from segops.data.flat_files import IMAGES, MASKS, OBJECTS, FlatWriter, array_bytes, flat_bytes
from segops.data.images import full_scale
from segops.data.intensities import ImageValues, image_values
from segops.data.pixel_store import StoreWriter
from segops.data.shards import StoredExample, read_shard
from segops.errors import UserError

PARTS = {"image": IMAGES, "mask": MASKS, "objects": OBJECTS}


class ShardUnit(NamedTuple):
    """A shard that is to be decoded.

    Attributes:
        rows: the table's, of the shard's images; `training` is an image's number among those of training, else -1.
        begins: where its stretch of each part's flat file begins, bytes.
    """

    number: int
    file: str
    rows: list[dict[Any, Any]]
    begins: dict[str, int]


class DecodedShard(NamedTuple):
    """What decoding a shard gave.

    Attributes:
        offsets: of each part, in its flat file, by image id; -1 where there are no objects.
        values: of training images, by image id.
        objects: of a bucket, by flat file.
    """

    offsets: dict[str, dict[str, int]]
    values: dict[str, ImageValues]
    objects: dict[str, list[StoredObject]]


def shard_units(files: Iterable[str], rows: Iterable[dict[Any, Any]]) -> list[ShardUnit]:
    """Cut a table by shards, and lay their arrays one after another."""
    by_shard: dict[str, list[dict[Any, Any]]] = {}
    for row in rows:
        by_shard.setdefault(row["shard"], []).append(row)
    units, ends = [], dict.fromkeys(PARTS, 0)
    for number, file in enumerate(file for file in files if file in by_shard):
        units.append(ShardUnit(number, file, by_shard[file], dict(ends)))
        for part in PARTS:
            told = (row for row in by_shard[file] if part != "objects" or row["instances"] >= 0)
            ends[part] += sum(flat_bytes(array_bytes(row, part)) for row in told)
    return units


@dataclass(frozen=True)
class ShardDecoder:
    """Decodes shards of a dataset.

    Args:
        dataset: the dataset's folder.
        folder: holds the flat files, which exist.
        store: `s3://bucket/prefix` that takes the pixels instead; None: the folder.
        name: of the data, in a bucket.
        uint16_bits: that 16-bit samples use.
        training: the number of training images.
        begins: where the folder's files begin in the whole ones, bytes, by part.
    """

    dataset: Path
    folder: Path
    store: str | None
    name: str
    uint16_bits: int
    training: int
    begins: dict[str, int]

    def __call__(self, unit: ShardUnit) -> DecodedShard:
        """Decode a shard. Raises UserError naming what is damaged or isn't what the manifest says."""
        rows = {row["image_id"]: row for row in unit.rows}
        offsets: dict[str, dict[str, int]] = {}
        values = {}
        with self._opened(unit) as (writers, objects):
            for example in read_shard(self.dataset, unit.file, rows):
                row = rows[example.image_id]
                check_example(example, row, self.dataset)
                arrays = {"image": example.image_HWC, "mask": example.mask_HW, "objects": example.objects_HW}
                offsets[example.image_id] = {
                    part: -1 if array is None else writers[part].append(array) for part, array in arrays.items()
                }
                if row["training"] >= 0:
                    values[example.image_id] = self._values(example, row["training"])
        return DecodedShard(offsets, values, objects)

    @contextmanager
    def _opened(self, unit: ShardUnit) -> Iterator[tuple[dict[str, FlatWriter], dict[str, list[StoredObject]]]]:
        """Open the shard's stretch of each flat file; objects of a bucket are listed when the block ends."""
        store = StoreWriter(self.store, self.name, unit.number) if self.store is not None else None
        with ExitStack() as opened:

            def stretch(part: str) -> IO[bytes]:
                if store is not None:
                    return opened.enter_context(store.open(PARTS[part]))
                file = opened.enter_context((self.folder / PARTS[part]).open("r+b"))
                file.seek(unit.begins[part] - self.begins[part])
                return file

            writers = {part: FlatWriter(stretch(part), unit.begins[part]) for part in PARTS}
            yield writers, store.objects if store is not None else {}

    def _values(self, example: StoredExample, number: int) -> ImageValues:
        """Measure a training image, as float32 on the full scale of its type."""
        dtype = example.image_HWC.dtype
        image_HWC = example.image_HWC.astype(np.float32) / np.float32(full_scale(dtype.name, self.uint16_bits))
        return image_values(image_HWC, example.mask_HW, number, self.training)


def check_example(example: StoredExample, row: dict[Any, Any], dataset: Path) -> None:
    """Raise UserError for an example that differs from its row of the manifest, or a mask of another size."""
    image_HWC, mask_HW = example.image_HWC, example.mask_HW
    objects = describe_objects(example.objects_HW)
    hashes = {"image_sha256": array_sha256(image_HWC), "mask_sha256": array_sha256(mask_HW), **objects}
    if any(row[name] != value for name, value in hashes.items()):
        raise UserError(
            f"{dataset / row['shard']}: '{example.image_id}' differs from its hash in the manifest; run ingest again"
        )
    if image_HWC.shape[:-1] != mask_HW.shape:
        of_mask, of_image = ("x".join(map(str, size)) for size in (mask_HW.shape, image_HWC.shape[:-1]))
        raise UserError(
            f"{row['source_mask']}: the mask has {of_mask} pixels, its image {of_image}; correct the file and run "
            "ingest again"
        )
