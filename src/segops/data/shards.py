"""Reads shards: tars of losslessly encoded images, masks and object maps in WebDataset layout (`data.shard_writer`).

Axes: H height, W width, C channels (1 grey, 3 RGB); a volume is DHWC, with its mask and objects DHW, as NPY.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO

import numpy as np

from segops.contracts.masks import is_foreground
from segops.data.images import decode_array
from segops.data.manifest import read_manifest
from segops.data.shard_store import is_stored, owner, read_stretches
from segops.errors import UserError


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


def images_by_shard(dataset: Path, only: Collection[str] | None = None) -> list[tuple[str, list[str]]]:
    """Return the shards that hold examples of a dataset, each with their ids, sorted.

    Args:
        only: ids of the images that are wanted; None: all.

    Raises: UserError when the manifest is missing or damaged.
    """
    about, manifest = read_manifest(dataset)
    wanted: dict[str, list[str]] = {}
    for shard, image_id in zip(manifest["shard"], manifest["image_id"], strict=True):
        if only is None or image_id in only:
            wanted.setdefault(shard, []).append(image_id)
    return [(shard.file, sorted(set(wanted[shard.file]))) for shard in about.shards if shard.file in wanted]


def read_shard(dataset: Path, shard: str, image_ids: Collection[str]) -> Iterator[StoredExample]:
    """Yield some examples of a shard, in its order, without holding more than an example in memory.

    The shard may hold others, which aren't decoded: it may be kept from an earlier version of the dataset.

    Raises: UserError when the shard is missing or damaged, or lacks an example.
    """
    missing = set(image_ids)
    read = _from_bucket if is_stored(dataset) else _from_file
    for example in read(dataset, shard, frozenset(missing)):
        missing.remove(example.image_id)
        yield example
    if missing:
        raise UserError(f"{dataset / shard}: holds no '{min(missing)}' ({len(missing)} missing); run ingest again")


def _from_file(dataset: Path, shard: str, image_ids: Collection[str]) -> Iterator[StoredExample]:
    """Yield the wanted examples of a shard that is a file, each once."""
    read: set[str] = set()
    with _open_shard(dataset / shard) as tar:
        for image_id, members in groupby(_members(tar), key=owner):
            if image_id in image_ids and image_id not in read:
                read.add(image_id)
                yield _example(image_id, tar, members)


def _from_bucket(dataset: Path, shard: str, image_ids: Collection[str]) -> Iterator[StoredExample]:
    """Yield the wanted examples of a shard that is in a bucket."""
    for image_id, content in read_stretches(dataset, shard, image_ids):
        with _open_shard(dataset / shard, io.BytesIO(content)) as tar:
            yield _example(image_id, tar, _members(tar))


def read_examples(dataset: Path, only: Collection[str] | None = None) -> Iterator[StoredExample]:
    """Yield all examples of a dataset, or of `only` some, shard by shard. Raises UserError as `read_shard`."""
    for shard, image_ids in images_by_shard(dataset, only if only is None else set(only)):
        yield from read_shard(dataset, shard, image_ids)


def read_shards(dataset: Path, only: Collection[str] | None = None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield id, image and mask of all examples of a dataset, or of `only` some, as `read_examples` does."""
    for example in read_examples(dataset, only):
        yield example.image_id, example.image_HWC, example.mask_HW


def read_example(dataset: Path, shard: str, image_id: str) -> StoredExample:
    """Read a single example from the shard that the manifest names for it. Raises UserError as `read_shard`."""
    return next(read_shard(dataset, shard, [image_id]))


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
def _open_shard(path: Path, content: IO[bytes] | None = None) -> Iterator[tarfile.TarFile]:
    """Open a shard, or a stretch of it, to read. Raises UserError where it is missing or damaged."""
    try:
        with tarfile.open(path, mode="r:", fileobj=content) as tar:
            yield tar
    except FileNotFoundError:
        raise UserError(f"{path}: no such shard; run ingest again (`dvc repro`)") from None
    except (tarfile.TarError, ValueError, RuntimeError, OverflowError, EOFError, IsADirectoryError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: damaged shard ({' '.join(str(error).split())}); run ingest again") from None
