"""Turns a source of raw files into a dataset of examples; decides what an example is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from segops.contracts.dataset import Dataset, Growth, Shard, UnusedFiles
from segops.contracts.part import PartRecord
from segops.contracts.tables import MANIFEST_COLUMNS, MANIFEST_FILE, write_table
from segops.data.examples import CLASSES, ReadExamples, read_examples_of
from segops.data.fingerprint import summarize
from segops.data.layouts.layout import Example, find_examples, used_files
from segops.data.layouts.unused import unused_files
from segops.data.objects import check_ids
from segops.data.parallel import ALL, Part
from segops.data.part_files import load_parts, save_part, work_of
from segops.data.read_changes import ChangeLog
from segops.data.shard_store import Stretch, place, save_stretches
from segops.data.shard_writer import SHARDS, WrittenShard, plan_shards, write_shards
from segops.data.sources.source import Source, open_source
from segops.data.volumes.dicom import BURNED_IN
from segops.errors import UserError
from segops.files import MIB, output_folder, run_record, sha256_file
from segops.params.ingest import IngestParams
from segops.planning.pairing import pairing_advice
from segops.progress import say

if TYPE_CHECKING:
    import pandas as pd

    from segops.data.growth import Base

_STAGE, _SPOOLS = "ingest", "spools"


def ingest(params: IngestParams, *, dataset: Path, faults: Path | None = None, workers: int = 1) -> Dataset:
    """Read a source, pair images with masks, and write a dataset.

    Args:
        params: the section `ingest` of params.yaml.
        dataset: folder for manifest.parquet, dataset.json, shards/*.tar and run.json; replaced as a whole.
        faults: a table of the files that can't be taken, where there are several.
        workers: processes that read, encode and write; the dataset doesn't depend on their number.

    Returns: what dataset.json says.
    Raises: UserError naming the file or param: see `open_source`, `find_examples`, `read_image`, `MaskValues`.
    """
    if faults is not None:
        faults.unlink(missing_ok=True)
    with (
        output_folder(dataset) as folder,
        run_record(folder, "ingest"),
        TemporaryDirectory(dir=folder) as spools,
    ):
        base = _base(params, dataset)
        read = _read(params, folder, Path(spools), workers)
        return _written(params, read, base, folder, faults, workers)


def ingest_part(params: IngestParams, *, folder: Path, part: Part, workers: int = 1) -> PartRecord:
    """Read and encode a range of a source's examples: a part of what `ingest` does, which `join_ingested` joins.

    Args:
        folder: for encoded examples and their figures; replaced as a whole.

    Raises: UserError as `ingest`, but for files that can't be taken: joining tells those of all parts together.
    """
    with output_folder(folder) as partial:
        (partial / _SPOOLS).mkdir()
        read = _read(params, partial, partial / _SPOOLS, workers, part)
        read.examples.move(Path(_SPOOLS))
        return save_part(partial, _STAGE, part, work_of(params), read)


def join_ingested(params: IngestParams, *, parts: Sequence[Path], dataset: Path, workers: int = 1) -> Dataset:
    """Join the parts of `ingest_part` to what `ingest` writes, byte by byte.

    Raises: UserError: a part lacks, is damaged, or is of other params or another state of the source; and as `ingest`.
    """
    with output_folder(dataset) as folder, run_record(folder, "ingest"):
        base = _base(params, dataset)
        return _written(params, _joined(params, parts), base, folder, None, workers)


class _Read(NamedTuple):
    """What was read of a source, and what the source is; `pairs` counts all of its examples' files."""

    examples: ReadExamples
    pairs: int
    unused: list[UnusedFiles]
    uri: str
    revision: str | None
    sha256: str


def _read(params: IngestParams, scratch: Path, spools: Path, workers: int, part: Part = ALL) -> _Read:
    """Open a source, pair its files, and read a part of its examples into spools."""
    with open_source(
        params.source,
        scratch=scratch,
        sha256=params.sha256,
        max_gib=params.max_archive_gib,
        connections=params.connections,
    ) as source:
        pairs = _paired(source, params)
        examples = read_examples_of(source, pairs, params, spools=spools, workers=workers, part=part)
        unused = unused_files(source.names, used_files(pairs, params))
        return _Read(examples, len(pairs), unused, source.uri, source.revision, source.sha256)


def _joined(params: IngestParams, parts: Sequence[Path]) -> _Read:
    """Read all parts as if one process had read the source."""
    examples, about = ReadExamples.of(params), None
    for folder, of_part in load_parts(parts, _STAGE, work_of(params), (_Read, UnusedFiles, *CLASSES)):
        if about is not None and of_part[1:] != about[1:]:
            raise UserError("ingest.source changed while parts of it were read; run again, when nobody writes to it")
        about = of_part
        of_part.examples.move(folder / _SPOOLS)
        examples.join(of_part.examples)
    if about is None:
        raise UserError("ingest: there is no part to join; run ingest_part first")
    whole: _Read = about._replace(examples=examples)
    return whole


def _written(
    params: IngestParams, read: _Read, base: Base | None, folder: Path, faults: Path | None, workers: int
) -> Dataset:
    """Write the shards, the manifest and dataset.json of what was read."""
    examples = read.examples
    examples.settle(params.uint16_bits, read.pairs, faults)
    _warn(examples.changes)
    placement = _place(examples, base, folder, params, workers)
    manifest = _manifest(examples.rows, placement)
    if params.mask_kind == "objects":
        check_ids(manifest["instances"].tolist(), examples.changes)
    write_table(manifest, folder / MANIFEST_FILE, MANIFEST_COLUMNS)
    result = Dataset(
        name=params.name,
        licence=params.stated_licence,
        source=read.uri,
        source_revision=read.revision,
        source_sha256=read.sha256,
        dimensions=params.dimensions,
        layout=params.layout,
        group_by=params.group_by,
        classes=params.classes,
        class_colours=params.colours,
        class_share=examples.class_share(params.classes),
        files=params.file_rules,
        uint16_bits=examples.uint16_bits,
        stack=params.stack,
        unused=read.unused,
        changes=examples.changes.entries(),
        joined_groups=placement.joined,
        growth=placement.growth,
        manifest_sha256=sha256_file(folder / MANIFEST_FILE),
        shards=placement.shards,
        **summarize(manifest),
    )
    result.save(folder)
    return result


def _warn(changes: ChangeLog) -> None:
    """Say what in files a person should look at before the data go on."""
    for entry in changes.entries():
        if entry.change == BURNED_IN:
            say(f"ingest: warning: {entry.files} series ({', '.join(list(entry.named)[:3])}): {BURNED_IN}")


def _paired(source: Source, params: IngestParams) -> list[Example]:
    """Pair a source's files. Raises UserError that also says which params would pair them, where some would."""
    try:
        return find_examples(source, params)
    except UserError as error:
        advice = pairing_advice(source, params)
        raise (UserError(f"{error}; {advice}") if advice else error) from None


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


def _place(read: ReadExamples, base: Base | None, folder: Path, params: IngestParams, workers: int) -> _Placement:
    """Write shards of all groups, or with a base of those that it doesn't have as they are."""
    from segops.data.growth import adopt_shards, describe_growth, inherit_groups, joined_groups, kept_groups

    rows, groups, max_bytes = read.rows, read.groups, params.shard_mib * MIB
    if base is None:
        planned, shard_of = plan_shards(read.members, groups, max_bytes)
        return _placed(folder, groups, shard_of, [], write_shards(folder, planned, workers), [])
    bridged: dict[str, list[str]] = {}
    if params.group_by == "fields":
        groups, bridged = inherit_groups(groups, base.groups)
    kept = kept_groups(rows, groups, base)
    old = base.shards_of(kept)
    changed = {image_id: group_id for image_id, group_id in groups.items() if group_id not in kept}
    planned, shard_of = plan_shards(read.members, changed, max_bytes, first=base.next_shard)
    new = write_shards(folder, planned, workers)
    adopted = adopt_shards(base, old, folder, place())
    shard_of |= {image_id: file for image_id, file in base.shard_of.items() if groups.get(image_id) in kept}
    placement = _placed(folder, groups, shard_of, old, new, adopted)
    growth = describe_growth(base, groups, kept, bridged, placement.shards)
    return replace(placement, growth=growth, joined=joined_groups(rows, groups, base))


def _placed(
    folder: Path,
    groups: dict[str, str],
    shard_of: dict[str, str],
    old: list[Shard],
    new: list[WrittenShard],
    adopted: list[Stretch],
) -> _Placement:
    """Say where examples are, in a file too where that is a bucket."""
    if (uri := place()) is not None:
        save_stretches(folder, uri, [*adopted, *(stretch for shard in new for stretch in shard.stretches)])
        (folder / SHARDS).rmdir()
    return _Placement(groups, shard_of, [*old, *(shard.about for shard in new)])


def _manifest(rows: list[dict[str, Any]], placement: _Placement) -> pd.DataFrame:
    """Complete the rows with group and shard, as a table of MANIFEST_COLUMNS."""
    import pandas as pd

    for row in rows:
        row["group_id"], row["shard"] = placement.groups[row["image_id"]], placement.shard_of[row["image_id"]]
    return pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))
