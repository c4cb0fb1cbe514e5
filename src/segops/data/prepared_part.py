"""Keeps what was decoded of a range of shards in a folder, and joins such folders to the whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from segops.contracts.pixels import StoredObject
from segops.contracts.prepared_part import PreparedPart
from segops.data.decode_shard import PARTS, DecodedShard
from segops.data.intensities import ChannelSums, ImageValues
from segops.errors import UserError
from segops.files import readable

_ARRAYS = "arrays.npz"


def save_arrays(folder: Path, decoded: Sequence[DecodedShard]) -> None:
    """Write where a range's arrays begin, and what its training images hold."""
    offsets = {image_id: places for shard in decoded for image_id, places in shard.offsets.items()}
    values = {image_id: measured for shard in decoded for image_id, measured in shard.values.items()}
    np.savez(
        folder / _ARRAYS,
        ids=np.array(list(offsets), np.str_),
        offsets=np.array([[places[part] for part in PARTS] for places in offsets.values()], np.int64),
        measured=np.array(list(values), np.str_),
        pixels=np.array([image.sums.pixels for image in values.values()], np.int64),
        samples=np.array([image.foreground_NC.shape for image in values.values()], np.int64).reshape(-1, 2),
        sums=_flat([np.concatenate([image.sums.sum, image.sums.squares]) for image in values.values()], "f8"),
        foreground=_flat([image.foreground_NC for image in values.values()], "f4"),
    )


def _flat(arrays: Sequence[np.ndarray], dtype: str) -> np.ndarray:
    """Lay arrays one after another."""
    return np.concatenate([np.zeros(0, dtype), *(array.ravel() for array in arrays)], dtype=dtype)


def load_arrays(folder: Path, objects: dict[str, list[StoredObject]]) -> DecodedShard:
    """Read a part as if its range were a shard. Raises UserError where the file is damaged or missing."""
    path = folder / _ARRAYS
    with readable(path, "part of prepare", "run the part again"), np.load(path, allow_pickle=False) as kept:
        ids, measured, samples = kept["ids"].tolist(), kept["measured"].tolist(), kept["samples"]
        channels = samples[:, 1] if len(samples) else np.zeros(0, np.int64)
        sums = np.split(kept["sums"], np.cumsum(2 * channels)[:-1]) if len(samples) else []
        foreground = np.split(kept["foreground"], np.cumsum(samples.prod(axis=1))[:-1]) if len(samples) else []
        offsets = [dict(zip(PARTS, map(int, places), strict=True)) for places in kept["offsets"]]
        values = [
            ImageValues(ChannelSums(int(pixels), *np.split(both, 2)), flat.reshape(shape))
            for pixels, both, flat, shape in zip(kept["pixels"], sums, foreground, samples, strict=True)
        ]
    return DecodedShard(dict(zip(ids, offsets, strict=True)), dict(zip(measured, values, strict=True)), objects)


def complete(parts: Sequence[Path], manifest_sha256: str, assignment_sha256: str) -> list[tuple[Path, PreparedPart]]:
    """Return the parts of prepare in their order. Raises UserError for another dataset's, and where some lack."""
    about = sorted(((PreparedPart.load(folder), folder) for folder in parts), key=lambda part: part[0].number)
    for part, folder in about:
        if (part.manifest_sha256, part.assignment_sha256) != (manifest_sha256, assignment_sha256):
            raise UserError(f"{folder / PreparedPart.FILE}: of another dataset or split; run that part again")
    numbers, wanted = [part.number for part, _ in about], about[0][0].parts if about else 1
    if numbers != list(range(wanted)):
        raise UserError(f"prepare: parts {numbers} of {wanted}; each is needed once: run those that lack")
    return [(folder, part) for part, folder in about]


def join_files(parts: Sequence[Path], folder: Path) -> None:
    """Lay the parts' stretches of flat files one after another."""
    for file in PARTS.values():
        with (folder / file).open("wb") as whole:
            for part in parts:
                with (part / file).open("rb") as stretch:
                    shutil.copyfileobj(stretch, whole, 2**22)


def stretches(parts: Sequence[tuple[Path, PreparedPart]]) -> Iterator[DecodedShard]:
    """Read what was decoded of each part."""
    for folder, part in parts:
        yield load_arrays(folder, part.objects)
