"""Writes shards: tars of losslessly encoded images, masks and object maps in WebDataset layout.

Equal input gives equal bytes.

Axes: H height, W width, C channels (1 grey, 3 RGB); a volume is DHWC, with its mask and objects DHW, as NPY.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np

from segops.contracts.dataset import Shard
from segops.data.images import encode_array
from segops.files import sha256_file

SHARDS = "shards"
_END_BYTES = 2 * tarfile.BLOCKSIZE


@dataclass(frozen=True)
class _Member:
    name: str
    offset: int
    size_bytes: int

    @property
    def tar_bytes(self) -> int:
        """Size in a tar: a header (three with a long or non-ASCII name) and the content, in whole blocks."""
        plain = self.name.isascii() and len(self.name) <= tarfile.LENGTH_NAME
        return ((1 if plain else 4) - (-self.size_bytes // tarfile.BLOCKSIZE)) * tarfile.BLOCKSIZE


class ShardWriter:
    """Takes examples in any order, then writes them group by group.

    Encoded examples wait in a temporary file, so that memory stays flat and groups may become known last.
    """

    def __init__(self, spool: IO[bytes]) -> None:
        self._spool = spool
        self._members: dict[str, list[_Member]] = {}

    @classmethod
    @contextmanager
    def open(cls, scratch: Path) -> Iterator[Self]:
        """Open a writer whose temporary file is in the folder `scratch` and is gone afterwards."""
        path = scratch / "spool.bin"
        try:
            with path.open("w+b") as spool:
                yield cls(spool)
        finally:
            path.unlink(missing_ok=True)

    def add(
        self, image_id: str, image_HWC: np.ndarray, mask_HW: np.ndarray, objects_HW: np.ndarray | None = None
    ) -> None:
        """Encode an example, with its objects where the source tells them apart, into the temporary file."""
        parts = {"image": image_HWC, "mask": mask_HW} | ({} if objects_HW is None else {"objects": objects_HW})
        volume = image_HWC.ndim == 4
        self._members[image_id] = [self._append(f"{image_id}.{part}", array, volume) for part, array in parts.items()]

    def _append(self, stem: str, array: np.ndarray, volume: bool) -> _Member:
        """Encode an array into the temporary file; return where it is there."""
        suffix, content = encode_array(array, volume=volume)
        member = _Member(f"{stem}.{suffix}", self._spool.tell(), len(content))
        self._spool.write(content)
        return member

    def write(
        self, folder: Path, groups: dict[str, str], max_bytes: int, *, first: int = 0
    ) -> tuple[list[Shard], dict[str, str]]:
        """Write the shards of those images: groups in order of their ids, and their images in order.

        Args:
            folder: the dataset's folder; shards go to `shards/`.
            groups: group id by image id; images that were added and aren't in it are left out.
            max_bytes: largest shard; a group that is larger gets a shard of its own.
            first: number of the first shard.

        Returns: the shards, and the shard's file by image id.
        """
        (folder / SHARDS).mkdir(exist_ok=True)
        shards, files = [], {}
        for number, image_ids in enumerate(self._plan(groups, max_bytes), start=first):
            file = f"{SHARDS}/shard-{number:05d}.tar"
            self._write_tar(folder / file, image_ids)
            size_bytes = (folder / file).stat().st_size
            sha256 = sha256_file(folder / file)
            shards.append(Shard(file=file, sha256=sha256, size_bytes=size_bytes, images=len(image_ids)))
            files.update(dict.fromkeys(image_ids, file))
        return shards, files

    def _plan(self, groups: dict[str, str], max_bytes: int) -> list[list[str]]:
        """Plan the shards as lists of image ids: whole groups, in order, as many as fit."""
        plan: list[list[str]] = []
        room = 0
        for image_ids in _by_group(groups):
            need = sum(member.tar_bytes for image_id in image_ids for member in self._members[image_id])
            if not plan or need > room:
                plan.append([])
                room = max_bytes - _END_BYTES
            plan[-1].extend(image_ids)
            room -= need
        return plan

    def _write_tar(self, path: Path, image_ids: Sequence[str]) -> None:
        """Write the members of some examples from the temporary file into a tar."""
        with path.open("wb") as file:
            for image_id in image_ids:
                for member in self._members[image_id]:
                    info = tarfile.TarInfo(member.name)  # mtime, uid and gid are 0
                    info.size = member.size_bytes
                    file.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
                    self._spool.seek(member.offset)
                    file.write(self._spool.read(member.size_bytes))
                    file.write(bytes(-member.size_bytes % tarfile.BLOCKSIZE))
            file.write(bytes(_END_BYTES))


def _by_group(groups: dict[str, str]) -> list[list[str]]:
    """Return the image ids of each group, both sorted."""
    members: dict[str, list[str]] = {}
    for image_id in sorted(groups):
        members.setdefault(groups[image_id], []).append(image_id)
    return [members[group_id] for group_id in sorted(members)]
