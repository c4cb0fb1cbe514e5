"""Takes a folder of slices as a volume: its files by the first of them, the lowest slice first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import PurePosixPath

from segops.data.decoders.kinds import VOLUME_SUFFIXES, image_stem, image_suffix
from segops.data.name_sequences import natural_key, natural_order
from segops.errors import UserError


def gathered(keys: Mapping[str, str]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Return a folder's key by its first slice, and its other slices by that.

    Args:
        keys: of files by their names; a folder's key is what stands before its files' own.

    Raises: UserError where a file is in no folder of its own, or a folder's files aren't the slices of a volume.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for name, key in keys.items():
        folder = key.rpartition("/")[0]
        if not folder:
            raise UserError(f"{name}: ingest.slices is folder, but it is in no volume's folder; put it into one")
        folders[folder].append(name)
    for names in folders.values():
        names[:] = natural_order(names)
        check_slices(names)
    return {names[0]: key for key, names in folders.items()}, {names[0]: tuple(names[1:]) for names in folders.values()}


def check_numbers(folders: Iterable[Sequence[str]]) -> None:
    """Raise UserError where channels or masks of a volume number their slices otherwise: they may be shifted.

    Args:
        folders: the slices of each channel and mask, in order.
    """
    numbered = [names for names in folders if not _is_dicom(names[0])]
    for names in numbered[1:]:
        ours, theirs = _numbers(names), _numbers(numbered[0])
        if ours != theirs:
            spans = [f"{len(numbers)} slices from {numbers[0]} to {numbers[-1]}" for numbers in (ours, theirs)]
            raise UserError(
                f"{names[0]}: a folder of {spans[0]}, but that of {numbered[0][0]} has {spans[1]}; give the slices of "
                "a volume and of its mask the same numbers"
            )


def check_slices(names: Sequence[str]) -> None:
    """Raise UserError where the files of a folder are a single one, of several kinds, or unevenly numbered.

    Args:
        names: in their natural order.
    """
    if len(names) == 1:
        raise UserError(f"{names[0]}: alone in its folder (ingest.slices: folder); a volume has at least two slices")
    kinds = {image_suffix(name): name for name in reversed(names)}
    if len(kinds) > 1:
        raise UserError(f"{' and '.join(list(kinds.values())[:2])} are slices of one folder; save all as one kind")
    if _is_dicom(names[0]):
        return  # it says where its slices lie
    numbers = _numbers(names)
    step = min(after - before for before, after in pairwise(numbers))
    for (before, after), name in zip(pairwise(numbers), names[1:], strict=True):
        if after - before != step:
            raise UserError(
                f"{name}: the slice before it is number {before}, but others are {step} apart; add the missing ones"
            )


def _numbers(names: Sequence[str]) -> list[int]:
    """Return the numbers of slices. Raises UserError where names differ in more than a number."""
    keys = [natural_key(PurePosixPath(image_stem(name)).name) for name in names]
    for name, key in zip(names, keys, strict=True):
        if len(key) != len(keys[0]):
            raise UserError(f"{name} and {names[0]} differ in more than a number; name slices alike, by their numbers")
    differing = [parts for parts in zip(*keys, strict=True) if len(set(parts)) > 1]
    numbers = [value for _, value in differing[0]] if differing else []
    if len(differing) != 1 or not all(isinstance(value, int) for value in numbers):
        raise UserError(f"{names[0]} and {names[1]} differ in more than a number; name slices alike, by their numbers")
    return [int(value) for value in numbers]


def _is_dicom(name: str) -> bool:
    return VOLUME_SUFFIXES.get(image_suffix(name)) == "DICOM"
