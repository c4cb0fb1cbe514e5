"""Writes shards: tars of losslessly encoded images, masks and object maps in WebDataset layout.

Equal input gives equal bytes.

Axes: H height, W width, C channels (1 grey, 3 RGB); a volume is DHWC, with its mask and objects DHW, as NPY.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import IO, NamedTuple, Self

import numpy as np

from segops.contracts.dataset import Shard
from segops.data.images import encode_array
from segops.data.parallel import in_order
from segops.data.shard_store import Stretch, place, put_shard
from segops.files import sha256_file

SHARDS = "shards"
_END_BYTES = 2 * tarfile.BLOCKSIZE


class Member(NamedTuple):
    """An encoded array that waits in a spool to be written into a shard under its name."""

    name: str
    spool: str
    offset: int
    size_bytes: int

    @property
    def tar_bytes(self) -> int:
        """Size in a tar: a header (three with a long or non-ASCII name) and the content, in whole blocks."""
        plain = self.name.isascii() and len(self.name) <= tarfile.LENGTH_NAME
        return ((1 if plain else 4) - (-self.size_bytes // tarfile.BLOCKSIZE)) * tarfile.BLOCKSIZE


Members = Mapping[str, list[Member]]


class Spool:
    """A temporary file of encoded examples, so that memory stays flat and groups may become known last.

    Attributes:
        members: by image id.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self.members: dict[str, list[Member]] = {}

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Open a new spool to add to; its file stays until it is removed."""
        with path.open("wb") as file:
            yield cls(path, file)

    def add(
        self, image_id: str, image_HWC: np.ndarray, mask_HW: np.ndarray, objects_HW: np.ndarray | None = None
    ) -> None:
        """Encode an example, with its objects where the source tells them apart."""
        parts = {"image": image_HWC, "mask": mask_HW} | ({} if objects_HW is None else {"objects": objects_HW})
        volume = image_HWC.ndim == 4
        self.members[image_id] = [self._append(f"{image_id}.{part}", array, volume) for part, array in parts.items()]

    def _append(self, stem: str, array: np.ndarray, volume: bool) -> Member:
        """Encode an array; return where it is."""
        suffix, content = encode_array(array, volume=volume)
        member = Member(f"{stem}.{suffix}", str(self._path), self._file.tell(), len(content))
        self._file.write(content)
        return member


class PlannedShard(NamedTuple):
    """A shard's file below the dataset's folder, and the members of its images in their order."""

    file: str
    members: list[list[Member]]


def plan_shards(
    members: Members, groups: Mapping[str, str], max_bytes: int, *, first: int = 0
) -> tuple[list[PlannedShard], dict[str, str]]:
    """Plan the shards of some images: groups in order of their ids, and their images in order.

    Args:
        members: by image id; those of images without a group are left out.
        groups: group id by image id.
        max_bytes: largest shard; a group that is larger gets a shard of its own.
        first: number of the first shard.

    Returns: the shards, and the shard's file by image id.
    """
    plan: list[list[str]] = []
    room = 0
    for image_ids in _by_group(groups):
        need = sum(member.tar_bytes for image_id in image_ids for member in members[image_id])
        if not plan or need > room:
            plan.append([])
            room = max_bytes - _END_BYTES
        plan[-1].extend(image_ids)
        room -= need
    named = {f"{SHARDS}/shard-{number:05d}.tar": image_ids for number, image_ids in enumerate(plan, start=first)}
    shards = [PlannedShard(file, [members[image_id] for image_id in image_ids]) for file, image_ids in named.items()]
    return shards, {image_id: file for file, image_ids in named.items() for image_id in image_ids}


class WrittenShard(NamedTuple):
    """A shard that was written; in a bucket, with its examples' stretches."""

    about: Shard
    stretches: list[Stretch]


def write_shards(folder: Path, shards: Sequence[PlannedShard], workers: int = 1) -> list[WrittenShard]:
    """Write planned shards below a dataset's folder, or into the bucket that SEGOPS_SHARD_STORE names.

    Args:
        workers: processes that write them.
    """
    (folder / SHARDS).mkdir(exist_ok=True)
    return list(in_order(partial(_written, folder, place()), shards, workers))


def _written(folder: Path, store: str | None, planned: PlannedShard) -> WrittenShard:
    """Write a shard to where it belongs."""
    shard = _write_shard(folder, planned)
    return WrittenShard(shard, put_shard(store, folder, shard) if store is not None else [])


def _write_shard(folder: Path, shard: PlannedShard) -> Shard:
    """Copy the members of a shard from their spools into a tar."""
    path = folder / shard.file
    every = (member for members in shard.members for member in members)
    with path.open("wb") as file:
        for name, of_spool in groupby(every, key=lambda member: member.spool):
            with Path(name).open("rb") as spool:
                for member in of_spool:
                    info = tarfile.TarInfo(member.name)  # mtime, uid and gid are 0
                    info.size = member.size_bytes
                    file.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
                    spool.seek(member.offset)
                    file.write(spool.read(member.size_bytes))
                    file.write(bytes(-member.size_bytes % tarfile.BLOCKSIZE))
        file.write(bytes(_END_BYTES))
    images = len(shard.members)
    return Shard(file=shard.file, sha256=sha256_file(path), size_bytes=path.stat().st_size, images=images)


def _by_group(groups: Mapping[str, str]) -> list[list[str]]:
    """Return the image ids of each group, both sorted."""
    members: dict[str, list[str]] = {}
    for image_id in sorted(groups):
        members.setdefault(groups[image_id], []).append(image_id)
    return [members[group_id] for group_id in sorted(members)]
