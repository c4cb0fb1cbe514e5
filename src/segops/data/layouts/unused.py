"""Counts the files of a source that no example uses, by their kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from segops.contracts.dataset import UnusedFiles
from segops.data.decoders.kinds import SUFFIXES, VOLUME_SUFFIXES, data_of_headers, image_suffix, unread_kind

_NAMED = 5


def unused_files(names: Iterable[str], used: set[str]) -> list[UnusedFiles]:
    """Return the kinds of files that aren't used: images first, then images that can't be read, then others.

    The data of a header that is used are used too.
    """
    there = set(names)
    by_kind: dict[tuple[int, str], list[str]] = {}
    for name in sorted(there - used - data_of_headers(used, there)):
        by_kind.setdefault(_kind(name), []).append(name)
    return [
        UnusedFiles(kind=kind, images=order < 2, files=len(files), named=files[:_NAMED])
        for (order, kind), files in sorted(by_kind.items())
    ]


def _kind(name: str) -> tuple[int, str]:
    """Return what a file is, after its place in the list."""
    if ".zarr/" in name.lower():
        return 1, "OME-Zarr in an archive, which isn't read: unpack it"
    suffix = image_suffix(name)
    if suffix in VOLUME_SUFFIXES:
        return 0, f"{SUFFIXES[suffix]}, of volumes"
    if suffix in SUFFIXES:
        return 0, f"{SUFFIXES[suffix]} in no pair"
    kind = unread_kind(name)
    if kind is not None:
        return 1, f"{kind}, which isn't read"
    return 2, PurePosixPath(name).suffix.lower() or "without suffix"
