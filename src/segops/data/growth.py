"""Grows a dataset out of an earlier version: what stays where it is, and what is new.

A group that has the same images, masks and objects as in the base keeps its shard, byte for byte, and old images keep
their group's name, so that more data moves neither bytes nor an old group to another subset of a split.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segops.contracts.dataset import Dataset, Growth, Shard
from segops.data.grouping import connected
from segops.data.manifest import read_manifest
from segops.data.shard_store import Stretch, fetch_shard, is_stored, is_stored_at, put_shard, stretches_of
from segops.data.sources.source import fetch
from segops.errors import UserError
from segops.files import sha256_file

if TYPE_CHECKING:
    import pandas as pd

_CONTENT = ("image_id", "image_sha256", "mask_sha256", "objects_sha256")
_NUMBER = re.compile(r"shard-(\d+)\.tar$")


@dataclass(frozen=True)
class Base:
    """An earlier dataset in its folder."""

    folder: Path
    about: Dataset
    manifest: pd.DataFrame

    @cached_property
    def groups(self) -> dict[str, str]:
        """Group id by image id."""
        return dict(zip(self.manifest["image_id"], self.manifest["group_id"], strict=True))

    @property
    def shard_of(self) -> dict[str, str]:
        """Shard by image id."""
        return dict(zip(self.manifest["image_id"], self.manifest["shard"], strict=True))

    @property
    def next_shard(self) -> int:
        """The first number that no shard of the base has, so that a name never has two contents."""
        numbers = [_NUMBER.search(shard.file) for shard in self.about.shards]
        return 1 + max(int(number[1]) for number in numbers if number)

    def shards_of(self, groups: set[str]) -> list[Shard]:
        """Return the shards that hold those groups."""
        files = set(self.manifest["shard"][self.manifest["group_id"].isin(groups)])
        return [shard for shard in self.about.shards if shard.file in files]


def open_base(uri: str, *, group_by: str, connections: int, output: Path) -> Base:
    """Open the dataset that `ingest.base` names: a folder, or a source that is fetched to a folder.

    Raises: UserError: missing, not a dataset, damaged, grouped by another rule, or the folder that is to be written.
    """
    folder = fetch(uri, param="ingest.base", connections=connections).path
    if folder.resolve() == output.resolve():
        raise UserError(
            f"ingest.base: {uri} is the folder that ingest writes; name a kept version, such as a copy of it or "
            "dvc://.@REVISION#data/dataset"
        )
    if not (folder / Dataset.FILE).is_file():
        raise UserError(f"ingest.base: {uri} holds no {Dataset.FILE}; name the folder of a dataset that ingest wrote")
    about, manifest = read_manifest(folder)
    if about.group_by != group_by:
        raise UserError(
            f"ingest.base: {uri} is grouped by {about.group_by}, ingest.group_by is {group_by}, so old groups would "
            "change sides; keep the rule, or set ingest.base to null and split anew"
        )
    return Base(folder, about, manifest)


def inherit_groups(groups: dict[str, str], base: dict[str, str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Rename groups that were found in the images to the names that their images had in the base.

    Images that shared a group stay together. A group that joins several groups of the base takes the name of the
    largest (of equally large groups the first): leaving them apart would leak. `joined_groups` keeps the other names,
    so that `split` moves none of their images into train.

    Args:
        groups: group id by image id, as found now.
        base: group id by image id, as in the base.

    Returns: the groups by image id, and the base's groups by the name that joins them, where they are several.
    """
    known = {image_id: name for image_id, name in base.items() if image_id in groups}
    components = connected(groups, [*_chains(groups), *_chains(known)])
    names: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for image_id, name in known.items():
        names[components[image_id]][name] += 1
    chosen = {component: min(had, key=lambda name: (-had[name], name)) for component, had in names.items()}
    inherited = {image_id: chosen.get(component, groups[image_id]) for image_id, component in components.items()}
    return inherited, {chosen[component]: sorted(had) for component, had in sorted(names.items()) if len(had) > 1}


def joined_groups(rows: Iterable[dict[str, Any]], groups: dict[str, str], base: Base) -> dict[str, list[str]]:
    """Return the names that a group's images have had in the base and before it, besides its own.

    An image is known by its id, or by its pixels where the base's id for them is gone: a file may get another name.

    Args:
        rows: the manifest's rows, with `image_id` and `image_sha256`.
        groups: group id by image id, as they are now.
        base: the earlier version.

    Returns: names by group, sorted, the group's own left out.
    """
    gone = base.manifest[~base.manifest["image_id"].isin(groups)]
    renamed = dict(zip(gone["image_sha256"], gone["group_id"], strict=True))
    names: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        image_id = row["image_id"]
        before = base.groups.get(image_id) or renamed.get(row["image_sha256"])
        if before is not None:
            names[groups[image_id]] |= {before, *base.about.joined_groups.get(before, ())}
    return {group: others for group, had in sorted(names.items()) if (others := sorted(had - {group}))}


def kept_groups(rows: Iterable[dict[str, Any]], groups: dict[str, str], base: Base) -> set[str]:
    """Return the groups that have exactly the images, masks and objects that they have in the base."""
    now = _content(rows, groups)
    before = _content(base.manifest.to_dict("records"), base.groups)
    return {group_id for group_id, content in before.items() if now.get(group_id) == content}


def adopt_shards(base: Base, shards: Iterable[Shard], folder: Path, store: str | None) -> list[Stretch]:
    """Copy shards of the base to where a dataset's are: its folder, or a bucket, whose stretches are returned.

    Raises: UserError for a missing or damaged shard.
    """
    if store is not None and is_stored_at(base.folder, store):
        return stretches_of(base.folder, shards)
    return [stretch for shard in shards for stretch in _adopt(base, shard, folder, store)]


def _adopt(base: Base, shard: Shard, folder: Path, store: str | None) -> list[Stretch]:
    """Copy a shard of the base."""
    source = base.folder / shard.file
    if is_stored(base.folder):
        fetch_shard(base.folder, shard, folder / shard.file)
    elif not source.is_file():
        raise UserError(f"ingest.base: {source}: no such file; restore the base or set ingest.base to null")
    else:
        shutil.copyfile(source, folder / shard.file)
    if sha256_file(folder / shard.file) != shard.sha256:
        raise UserError(
            f"ingest.base: {source}: not the shard that {Dataset.FILE} names; restore the base or set ingest.base "
            "to null"
        )
    return put_shard(store, folder, shard) if store is not None else []


def describe_growth(
    base: Base, groups: dict[str, str], kept: set[str], bridged: dict[str, list[str]], shards: Iterable[Shard]
) -> Growth:
    """Count what dataset.json says about a version's base: groups and images kept, new, changed, removed."""
    old, now = set(base.manifest["group_id"]), set(groups.values())
    bytes_kept = sum(shard.size_bytes for shard in base.shards_of(kept))
    return Growth(
        base_manifest_sha256=base.about.manifest_sha256,
        groups_kept=len(kept),
        groups_changed=len((old & now) - kept),
        groups_new=len(now - old),
        groups_removed=len(old - now),
        images_kept=sum(group_id in kept for group_id in groups.values()),
        images_written=sum(group_id not in kept for group_id in groups.values()),
        images_removed=len(set(base.manifest["image_id"]) - set(groups)),
        bytes_kept=bytes_kept,
        bytes_written=sum(shard.size_bytes for shard in shards) - bytes_kept,
        bridged_groups=bridged,
    )


def _content(rows: Iterable[Mapping[Any, Any]], groups: Mapping[str, str]) -> dict[str, set[tuple[str, ...]]]:
    """Return what each group holds, by group id: each image's id and the hashes of its pixels, mask and objects."""
    content: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for row in rows:
        content[groups[row["image_id"]]].add(tuple(row[name] for name in _CONTENT))
    return content


def _chains(groups: dict[str, str]) -> list[tuple[str, str]]:
    """Return pairs that connect the images of each group."""
    last: dict[str, str] = {}
    pairs = []
    for image_id, name in groups.items():
        if name in last:
            pairs.append((last[name], image_id))
        last[name] = image_id
    return pairs
