"""Writes and reads shards: tars of losslessly encoded images, masks and object maps in WebDataset layout.

Equal input gives equal bytes.

Axes: H height, W width, C channels (1 grey, 3 RGB); a volume is DHWC, with its mask and objects DHW, as NPY.
"""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Self

import numpy as np

from segops.contracts.dataset import Shard
from segops.contracts.masks import is_foreground
from segops.data.images import decode_array, encode_array
from segops.data.manifest import read_manifest
from segops.errors import UserError
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


@dataclass(frozen=True)
class StoredExample:
    """An example as a shard holds it.

    Attributes:
        image_HWC: uint8, uint16, int16 or float32; DHWC of a volume.
        mask_HW: uint8 class indices; DHW of a volume.
        objects_HW: an object map (`data.objects`); None where the source tells no objects apart.
    """

    image_id: str
    image_HWC: np.ndarray
    mask_HW: np.ndarray
    objects_HW: np.ndarray | None

    def as_picture(self) -> StoredExample:
        """Return the example, or of a volume the axial slice with the most foreground, of several the middle one."""
        if self.image_HWC.ndim == 3:
            return self
        foreground_D = np.count_nonzero(is_foreground(self.mask_HW), axis=(1, 2))
        largest = np.flatnonzero(foreground_D == foreground_D.max())
        plane = int(largest[len(largest) // 2])
        objects_HW = None if self.objects_HW is None else self.objects_HW[plane]
        return StoredExample(self.image_id, self.image_HWC[plane], self.mask_HW[plane], objects_HW)


def read_examples(dataset: Path, only: Collection[str] | None = None) -> Iterator[StoredExample]:
    """Yield all examples of a dataset, shard by shard, without holding more than an example in memory.

    Only what the manifest names is read: a shard that was kept from an earlier version may hold more.

    Args:
        only: ids of the images that are wanted; the others aren't decoded.

    Raises: UserError when a shard or the manifest is missing or damaged, or shards end before all examples were read.
    """
    about, manifest = read_manifest(dataset)
    live = set(zip(manifest["shard"], manifest["image_id"], strict=True))
    if only is not None:
        wanted = set(only)
        live = {place for place in live if place[1] in wanted}
    for shard in about.shards:
        with _open_shard(dataset / shard.file) as tar:
            for image_id, members in groupby(_members(tar), key=lambda info: info.name.partition(".")[0]):
                if (shard.file, image_id) in live:
                    live.remove((shard.file, image_id))
                    yield _example(image_id, tar, members)
        if missing := sorted(image_id for file, image_id in live if file == shard.file):
            raise UserError(
                f"{dataset / shard.file}: holds no '{missing[0]}' ({len(missing)} missing); run ingest again"
            )


def read_shards(dataset: Path, only: Collection[str] | None = None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield id, image and mask of all examples of a dataset, or of `only` some, as `read_examples` does."""
    for example in read_examples(dataset, only):
        yield example.image_id, example.image_HWC, example.mask_HW


def read_example(dataset: Path, shard: str, image_id: str) -> StoredExample:
    """Read a single example from the shard that the manifest names for it.

    Raises: UserError when the shard is missing, damaged or lacks the example.
    """
    with _open_shard(dataset / shard) as tar:
        for owner, members in groupby(_members(tar), key=lambda info: info.name.partition(".")[0]):
            if owner == image_id:
                return _example(image_id, tar, members)
    raise UserError(f"{dataset / shard}: holds no '{image_id}'; run ingest again")


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a shard in turn."""
    while (info := tar.next()) is not None:
        yield info
        tar.members = []  # type: ignore[attr-defined]  # else tarfile keeps every header it has read


def _example(image_id: str, tar: tarfile.TarFile, members: Iterable[tarfile.TarInfo]) -> StoredExample:
    """Decode an example's members."""
    parts = {info.name.split(".")[1]: _read(tar, info) for info in members}
    for part in ("image", "mask"):
        if part not in parts:
            raise tarfile.ReadError(f"{image_id} has no {part}")
    return StoredExample(image_id, _image(parts["image"]), parts["mask"], parts.get("objects"))


def _read(tar: tarfile.TarFile, info: tarfile.TarInfo) -> np.ndarray:
    """Decode a member of a shard."""
    file = tar.extractfile(info)
    if file is None:
        raise tarfile.ReadError(f"{info.name} is not a file")
    return decode_array(info.name.rpartition(".")[2], file.read())


def _image(array: np.ndarray) -> np.ndarray:
    """Give a grey image its channel axis back: HW to HWC."""
    return array[..., None] if array.ndim == 2 else array


@contextmanager
def _open_shard(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a shard to read. Raises UserError where it is missing or damaged."""
    try:
        with tarfile.open(path, mode="r:") as tar:
            yield tar
    except FileNotFoundError:
        raise UserError(f"{path}: no such shard; run ingest again (`dvc repro`)") from None
    except (tarfile.TarError, ValueError, RuntimeError, OverflowError, EOFError, IsADirectoryError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: damaged shard ({' '.join(str(error).split())}); run ingest again") from None
