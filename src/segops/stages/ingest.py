"""Turns a source of raw files into a dataset of examples; decides what an example is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segops.contracts.dataset import Dataset, Growth, Shard
from segops.contracts.tables import MANIFEST_COLUMNS, MANIFEST_FILE, write_table
from segops.data.fingerprint import describe_image, describe_mask, describe_objects, summarize
from segops.data.images import read_stack
from segops.data.layouts.layout import Example, find_examples
from segops.data.masks import MaskValues, read_mask
from segops.data.objects import merge_objects, number_objects, objects_in_files
from segops.data.read_changes import ChangeLog
from segops.data.shards import ShardWriter
from segops.data.sources.source import Source, open_source
from segops.files import MIB, output_folder, run_record, sha256_file
from segops.params.ingest import IngestParams
from segops.progress import track

if TYPE_CHECKING:
    import pandas as pd

    from segops.data.growth import Base


def ingest(params: IngestParams, *, dataset: Path) -> Dataset:
    """Read a source, pair images with masks, and write a dataset.

    Args:
        params: the section `ingest` of params.yaml.
        dataset: folder for manifest.parquet, dataset.json, shards/*.tar and run.json; replaced as a whole.

    Returns: what dataset.json says.
    Raises: UserError naming the file or param: see `open_source`, `find_examples`, `read_image`, `MaskValues`.
    """
    with output_folder(dataset) as folder, run_record(folder, "ingest"):
        with (
            open_source(
                params.source,
                scratch=folder,
                sha256=params.sha256,
                max_gib=params.max_archive_gib,
                connections=params.connections,
            ) as source,
            ShardWriter.open(folder) as writer,
        ):
            base = _base(params, dataset)
            reader = _Reader(params, source)
            groups = reader.copy(find_examples(source, params), writer)
            placement = _place(reader.rows, groups, writer, base, folder, params)
            uri, revision, source_sha256 = source.uri, source.revision, source.sha256
        manifest = _manifest(reader.rows, placement)
        write_table(manifest, folder / MANIFEST_FILE, MANIFEST_COLUMNS)
        result = Dataset(
            name=params.name,
            licence=params.licence,
            source=uri,
            source_revision=revision,
            source_sha256=source_sha256,
            layout=params.layout,
            group_by=params.group_by,
            classes=params.classes,
            class_colours=params.colours,
            class_share=reader.class_share(),
            stack=params.stack,
            changes=reader.changes.entries(),
            joined_groups=placement.joined,
            growth=placement.growth,
            manifest_sha256=sha256_file(folder / MANIFEST_FILE),
            shards=placement.shards,
            **summarize(manifest),
        )
        result.save(folder)
    return result


@dataclass(frozen=True)
class _Placement:
    """Where examples are: group and shard by image id, all shards, and what a base lent."""

    groups: dict[str, str]
    shard_of: dict[str, str]
    shards: list[Shard]
    growth: Growth | None = None
    joined: dict[str, list[str]] = field(default_factory=dict)


def _base(params: IngestParams, dataset: Path) -> Base | None:
    """Open the dataset of `ingest.base`; None where none is named."""
    from segops.data.growth import open_base

    if params.base is None:
        return None
    return open_base(params.base, group_by=params.group_by, connections=params.connections, output=dataset)


def _place(
    rows: list[dict[str, Any]],
    groups: dict[str, str],
    writer: ShardWriter,
    base: Base | None,
    folder: Path,
    params: IngestParams,
) -> _Placement:
    """Write shards of all groups, or with a base of those that it doesn't have as they are."""
    from segops.data.growth import adopt_shards, describe_growth, inherit_groups, joined_groups, kept_groups

    max_bytes = params.shard_mib * MIB
    if base is None:
        shards, shard_of = writer.write(folder, groups, max_bytes)
        return _Placement(groups, shard_of, shards)
    bridged: dict[str, list[str]] = {}
    if params.group_by == "fields":
        groups, bridged = inherit_groups(groups, base.groups)
    kept = kept_groups(rows, groups, base)
    old = base.shards_of(kept)
    changed = {image_id: group_id for image_id, group_id in groups.items() if group_id not in kept}
    new, shard_of = writer.write(folder, changed, max_bytes, first=base.next_shard)
    adopt_shards(base, old, folder)
    shard_of |= {image_id: file for image_id, file in base.shard_of.items() if groups.get(image_id) in kept}
    growth = describe_growth(base, groups, kept, bridged, [*old, *new])
    return _Placement(groups, shard_of, [*old, *new], growth, joined_groups(rows, groups, base))


class _Reader:
    """Reads examples in turn and keeps figures only."""

    def __init__(self, params: IngestParams, source: Source) -> None:
        self.group_by, self.mask_kind = params.group_by, params.mask_kind
        self.source = source
        self.values = MaskValues(params.mask_values, params.stray_values)
        self.rows: list[dict[str, Any]] = []
        self.changes = ChangeLog()
        self.class_pixels = np.zeros(len(params.classes), np.int64)

    def copy(self, examples: list[Example], writer: ShardWriter) -> dict[str, str]:
        """Copy the examples to the writer; return group ids by image id."""
        from segops.data.grouping import FieldMatcher

        matcher = FieldMatcher() if self.group_by == "fields" else None
        for example in track(examples, "ingest"):
            image_HWC = read_stack(self.source.read, (example.image, *example.stacked), self.changes)
            mask_HW, objects_HW = self._mask(example)
            columns, class_pixels = describe_mask(mask_HW, len(self.class_pixels))
            self.class_pixels += class_pixels
            self.rows.append(
                {
                    "image_id": example.image_id,
                    "source_image": example.image,
                    "source_mask": example.mask_source,
                    **describe_image(image_HWC),
                    **({"modality": example.modality} if example.modality else {}),
                    **columns,
                    **describe_objects(objects_HW),
                }
            )
            writer.add(example.image_id, image_HWC, mask_HW, objects_HW)
            if matcher:
                matcher.add(example.image_id, image_HWC)
        return matcher.groups() if matcher else {example.image_id: example.group_id for example in examples}

    def _mask(self, example: Example) -> tuple[np.ndarray, np.ndarray | None]:
        """Read an example's mask as class indices HW, and as an object map where the source tells objects apart."""
        if example.mask_rule == "values":
            (name,) = example.masks
            if self.mask_kind == "classes":
                return self._mapped(name), None
            objects_HW = number_objects(self._read(name), name, self.changes)
            return (objects_HW > 0).view(np.uint8), objects_HW
        if example.mask_rule == "objects" and self.mask_kind == "objects":
            masks = objects_in_files((name, self._read(name)) for name in example.masks)
        else:
            read = self._nonzero if example.mask_rule == "nonzero" else self._mapped
            masks = ((name, read(name)) for name in example.masks)
        return merge_objects(masks, example.image, self.changes)

    def _read(self, name: str) -> np.ndarray:
        """Read the values of a mask HW."""
        return read_mask(self.source.read(name), name, self.changes)

    def _mapped(self, name: str) -> np.ndarray:
        """Read a mask whose values name classes."""
        return self.values.apply(self._read(name), name, self.changes)

    def _nonzero(self, name: str) -> np.ndarray:
        """Read a mask in which anything above 0 is class 1."""
        return (self._read(name) > 0).view(np.uint8)

    def class_share(self) -> dict[str, float]:
        """Return the share of all pixels by class."""
        total = int(self.class_pixels.sum())
        return {name: int(count) / total for name, count in zip(self.values.classes, self.class_pixels, strict=True)}


def _manifest(rows: list[dict[str, Any]], placement: _Placement) -> pd.DataFrame:
    """Complete the rows with group and shard, as a table of MANIFEST_COLUMNS."""
    import pandas as pd

    for row in rows:
        row["group_id"], row["shard"] = placement.groups[row["image_id"]], placement.shard_of[row["image_id"]]
    return pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))
