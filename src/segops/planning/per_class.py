"""Proposes masks that are a file for each class: folders or ends of names that hold the classes' names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from segops.data.decoders.kinds import image_suffix
from segops.data.masks import read_mask
from segops.data.read_changes import ChangeLog
from segops.errors import UserError
from segops.params.masks import CLASS
from segops.planning.families import Family, Proposed, by_role, families, kinds_of_names, stem_of

_SAME_SHARE = 0.2  # of the smaller of two masks that both hold, from which they show one thing
_FEWEST, _MOST = 2, 12  # classes


def per_class_proposals(files: Sequence[str], read: Callable[[str], bytes]) -> Iterator[Proposed]:
    """Yield globs with `{class}` where several masks of an image lie in folders, or end in words, of their own.

    Masks that hold the same pixels are rather those of several annotators, so the first image's are compared.
    """
    images, masks = by_role(files)
    by_parent: dict[str, list[Family]] = defaultdict(list)
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in masks:
        by_folder[str(PurePosixPath(name).parent)].append(name)
    for folder, members in sorted(by_folder.items()):
        by_parent[str(PurePosixPath(folder).parent)].append(Family(tuple(folder.split("/")), tuple(members)))
    for parts in by_parent.values():
        for image in families(images):
            yield from _in_folders(image, parts, read)
    yield from _by_end(files, read)


def _in_folders(image: Family, parts: Sequence[Family], read: Callable[[str], bytes]) -> Iterator[Proposed]:
    """Yield the glob of masks in one folder a class."""
    if not _FEWEST <= len(parts) <= _MOST:
        return
    names = [part.shape[-1] for part in parts]
    for affix in parts[0].affixes:
        keys = [part.keys(affix) for part in parts]
        shared = set.intersection(*keys) & image.keys(("", ""))
        if 2 * len(shared) <= max(map(len, keys)):
            continue
        first = min(shared)
        if _differ([next(name for name in part.names if first in name) for part in parts], read):
            whole = Family((*parts[0].shape[:-1], CLASS), parts[0].names)
            yield _proposed(image.plain or image.glob(("", "")), whole.glob(affix), names)
            return


def _by_end(files: Sequence[str], read: Callable[[str], bytes]) -> Iterator[Proposed]:
    """Yield the glob of masks whose names are the image's and a class."""
    kinds = kinds_of_names(files)
    for images, of_images in kinds.items():
        home, own_suffix = images.rpartition("*")[0], image_suffix(images)
        if PurePosixPath(images).name != f"*{own_suffix}":
            continue
        ends: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
        for glob, members in kinds.items():
            stem = stem_of(glob)
            if glob.startswith(f"{home}*") and stem != "*" and set(members) <= set(of_images):
                ends[image_suffix(glob)][stem.removeprefix("*")] = members
        for suffix, of_end in ends.items():
            begin = re.sub(r"[^_. -]*$", "", _common(list(of_end)))
            names = [end.removeprefix(begin) for end in of_end]
            shared = set.intersection(*map(set, of_end.values()))
            if not _FEWEST <= len(of_end) <= _MOST or not shared or any(map(str.isdigit, names)):
                continue
            first = min(shared)
            if _differ([members[first] for members in of_end.values()], read):
                yield _proposed(images, f"{home}*{begin}{CLASS}{suffix}", names)


def _common(texts: Sequence[str]) -> str:
    """Return what all texts begin with."""
    low, high = min(texts), max(texts)
    same = [place for place, (one, other) in enumerate(zip(low, high, strict=False)) if one != other]
    return low[: same[0]] if same else low


def _proposed(images: str, masks: str, names: Sequence[str]) -> Proposed:
    """Return the proposal of a glob with `{class}`."""
    values = {0: "background", **dict(enumerate(names, start=1))}
    params = {"images": images, "masks": masks, "mask_kind": "one_file_per_class", "mask_values": values}
    return Proposed(params, f"a mask for each of {', '.join(names)}", True)


def _differ(names: Sequence[str], read: Callable[[str], bytes]) -> bool:
    """Return whether the masks of an image hold hardly a pixel of one another."""
    try:
        masks = [read_mask(read(name), name, ChangeLog()) > 0 for name in names]
    except UserError:
        return False
    pairs = [(first, second) for place, first in enumerate(masks) for second in masks[:place]]
    if any(first.shape != second.shape for first, second in pairs):
        return False
    return all(
        np.count_nonzero(first & second) <= _SAME_SHARE * min(np.count_nonzero(first), np.count_nonzero(second))
        for first, second in pairs
    )
