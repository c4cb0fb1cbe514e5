"""Proposes folders and globs: files of one role under folders of one shape are a family, and two families may pair."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from segops.data.decoders.kinds import VOLUME_SUFFIXES, image_stem, image_suffix
from segops.data.layouts.pairing import is_image
from segops.data.layouts.patterns import is_glob, match
from segops.errors import UserError
from segops.params.layout import CHANNEL
from segops.planning.words import affixes, role

_MOST_FAMILIES = 6  # of a role, the largest first
_FEW_VALUES = 32  # that a mask holds, at most, where no name says which files are masks

Affix = tuple[str, str]


class Proposed(NamedTuple):
    """Params of layout pairs, the reason, and whether that is sure."""

    params: dict[str, Any]
    why: str
    sure: bool


@dataclass(frozen=True)
class Family:
    """Files of one role below folders of one shape.

    Attributes:
        shape: globs of the folders' parts from the source's root.
        names: the files.
    """

    shape: tuple[str, ...]
    names: tuple[str, ...]

    @cached_property
    def affixes(self) -> list[Affix]:
        """Beginnings and ends that the names of all files share, without suffix."""
        return affixes([stem_of(name) for name in self.names])

    @cached_property
    def stem(self) -> str | None:
        """The name without suffix that all files have, in folders of their own; None where names differ."""
        stems = {stem_of(name) for name in self.names}
        return stems.pop() if len(stems) == 1 else None

    @cached_property
    def suffix(self) -> str:
        """The suffix that all files have; nothing where they differ."""
        suffixes = {image_suffix(name) for name in self.names}
        return suffixes.pop() if len(suffixes) == 1 else ""

    @property
    def named(self) -> bool:
        """Whether a folder says what the files are."""
        return any(map(role, self.shape))

    @property
    def plain(self) -> str | None:
        """The folder that holds all of them, up to the part that names the role; None where it differs."""
        roles = [place for place, part in enumerate(self.shape) if role(part)]
        shape = self.shape[: roles[-1] + 1] if roles else self.shape
        return None if any(map(is_glob, shape)) else "/".join(shape) or "."

    def glob(self, affix: Affix) -> str:
        """The pattern of the family, with a wildcard where its files' folders and names differ."""
        stem = f"{_escaped(affix[0])}*{_escaped(affix[1])}" if self.stem is None else _escaped(self.stem)
        return "/".join([*self.shape, f"{stem}{self.suffix}"])

    def keys(self, affix: Affix) -> set[str]:
        """What the pattern's wildcards stand for, by file."""
        glob = self.glob(affix)
        matches = (match(glob, name) for name in self.names)
        keys = ("/".join(part for part in found.groups() if part) for found in matches if found)
        return {image_stem(key) if is_image(key) else key for key in keys}


def stem_of(name: str) -> str:
    """Return a file's name without its suffix; `.nii.gz` is one."""
    return PurePosixPath(image_stem(name)).name


def folder_proposals(files: Sequence[str]) -> Iterator[Proposed]:
    """Yield folders and globs by which files whose names say mask may pair with the others."""
    images, masks = by_role(files)
    couples = [(image, mask) for mask in families(masks) for image in families(images)]
    couples.sort(key=lambda couple: _distance(*couple))
    for image, mask in couples:
        if mask.named and image.plain and mask.plain and image.plain != mask.plain:
            params = {"images": image.plain, "masks": mask.plain}
            yield Proposed(params, f"folders {image.plain} and {mask.plain} hold files of the same names", True)
    for image, mask in couples:
        yield from globs(image, mask)
    for image, mask in couples:
        yield from _stacks(image, mask)


def _distance(image: Family, mask: Family) -> tuple[int, bool]:
    """Return how many folders lie between two families, and whether the images' have no name that says so."""
    shared = sum(1 for _ in takewhile(lambda parts: parts[0] == parts[1], zip(image.shape, mask.shape, strict=False)))
    return len(image.shape) + len(mask.shape) - 2 * shared, not image.named


def mask_candidates(files: Sequence[str], read: Callable[[str], bytes]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield globs of files of equal names but for folder, end or suffix, of which one holds as few values as a mask."""
    kinds = sorted(kinds_of_names(files).items(), key=lambda kind: -len(kind[1]))[:_MOST_FAMILIES]
    likely = {glob: _holds_few_values(next(iter(members.values())), read) for glob, members in kinds}
    for images, of_images in kinds:
        for masks, of_masks in kinds:
            if likely[masks] and not likely[images] and set(of_images) == set(of_masks):
                why = f"names of {images} and {masks} pair, and the first of {masks} holds few values"
                yield {"images": images, "masks": masks}, why


def kinds_of_names(files: Sequence[str]) -> dict[str, dict[str, str]]:
    """Part files by folder, suffix and an end that follows another file's name; return names by glob and by stem."""
    stems: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in files:
        path = PurePosixPath(name)
        stems[str(path.parent), path.name.removeprefix(stem_of(name))].append(stem_of(name))
    in_folder: dict[str, set[str]] = defaultdict(set)
    for (folder, _), members in stems.items():
        in_folder[folder] |= set(members)
    kinds: dict[str, dict[str, str]] = defaultdict(dict)
    for (folder, suffix), members in stems.items():
        home = "" if folder == "." else f"{folder}/"
        for stem in members:
            ends = [end for _, end in _cuts_at_delimiters(stem) if stem.removesuffix(end) in in_folder[folder]]
            end = ends[0] if ends else ""
            kinds[f"{home}*{end}{suffix}"][stem.removesuffix(end)] = f"{home}{stem}{suffix}"
    return kinds


def _cuts_at_delimiters(stem: str) -> list[tuple[str, str]]:
    """Return a name cut before each delimiter in it, the longest end first."""
    return [(stem[:place], stem[place:]) for place in range(1, len(stem)) if stem[place] in "_-. "]


def _holds_few_values(name: str, read: Callable[[str], bytes]) -> bool:
    """Return whether a file holds as few values as a mask does."""
    import numpy as np

    from segops.data.decoders.decode import decode
    from segops.data.read_changes import ChangeLog
    from segops.data.volumes.read import read_volume
    from segops.params.file_rules import FileRules

    try:
        if image_suffix(name) in VOLUME_SUFFIXES:
            array_HWC, _ = read_volume(read, [(name,)], ChangeLog(), FileRules())
        else:
            array_HWC = decode(read(name), name, "values").array_HWC
    except UserError:
        return False
    return len(np.unique(array_HWC.reshape(-1, array_HWC.shape[-1]), axis=0)) <= _FEW_VALUES


def by_role(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part files into images and masks: by the last folder whose name says what it holds, else by the file's name."""
    common = os.path.commonpath([PurePosixPath(name).parent for name in files]) if files else ""
    images: list[str] = []
    masks: list[str] = []
    for name in files:
        path = PurePosixPath(name)
        roles = [role(part) for part in path.relative_to(common or ".").parts[:-1]]
        of_folder = next((said for said in reversed(roles) if said), None)
        is_mask = "mask" in (of_folder, role(stem_of(name)))
        (masks if is_mask else images).append(name)
    return images, masks


def families(names: Sequence[str]) -> list[Family]:
    """Part files of a role into families by the folders' roles, the largest first, then those of a single folder.

    Folders with a role are told apart by their names, or where these are many, as with one for each image, by the role.
    """
    by_folder = _by(names, lambda folder: folder)
    by_shape = _by(names, lambda folder: tuple(part if role(part) else "" for part in folder))
    if len(by_shape) > _MOST_FAMILIES:
        by_shape = _by(names, lambda folder: tuple(role(part) or "" for part in folder))
    merged = [_family(members) for members in by_shape.values()]
    single = [_family(members) for members in by_folder.values()]
    single = [family for family in single if family.shape not in {other.shape for other in merged}]
    return _largest(merged) + (_largest(single) if len(single) <= _MOST_FAMILIES else [])


def _by(names: Sequence[str], shape: Callable[[tuple[str, ...]], tuple[str, ...]]) -> dict[tuple[str, ...], list[str]]:
    """Part files by what a function makes of their folders."""
    parts: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in names:
        parts[shape(tuple(name.split("/")[:-1]))].append(name)
    return parts


def _family(members: Sequence[str]) -> Family:
    """Return the family of files whose folders have equally many parts."""
    columns = zip(*(name.split("/")[:-1] for name in members), strict=True)
    return Family(tuple(_part(sorted(set(column))) for column in columns), tuple(members))


def _part(values: Sequence[str]) -> str:
    """Return the glob of a part of folders: its name, or a wildcard with what all names that say a role share."""
    if len(values) == 1:
        return _escaped(values[0])
    shared = [affix for affix in affixes(values) if role("".join(affix))] if all(map(role, values)) else []
    begin, end = max(shared, key=lambda affix: len("".join(affix)), default=("", ""))
    return f"{_escaped(begin)}*{_escaped(end)}"


def _escaped(text: str) -> str:
    """Return a text as a glob, in which a wildcard's character is any character."""
    return re.sub(r"[*?\[\]]", "?", text)


def _largest(families: list[Family]) -> list[Family]:
    return sorted(families, key=lambda family: -len(family.names))[:_MOST_FAMILIES]


def globs(image: Family, mask: Family) -> Iterator[Proposed]:
    """Yield globs of two families, those with the shortest affixes first."""
    keys_of = {family: {affix: family.keys(affix) for affix in family.affixes} for family in (image, mask)}
    options = [(own, other) for own in image.affixes for other in mask.affixes]
    for own, other in sorted(options, key=lambda affix: len("".join([*affix[0], *affix[1]]))):
        images, masks = keys_of[image][own], keys_of[mask][other]
        if _overlap(images, masks) or _overlap(_stems(images), _stems(masks)):
            params = {"images": image.glob(own), "masks": mask.glob(other)}
            yield Proposed(params, f"names pair as {params['images']} with {params['masks']}", True)


def _overlap(images: set[str], masks: set[str]) -> bool:
    """Return whether more than half of the smaller set is in the other."""
    return 2 * len(images & masks) > min(len(images), len(masks))


def _stems(keys: set[str]) -> set[str]:
    return {key.rpartition("/")[2] for key in keys}


def _stacks(image: Family, mask: Family) -> Iterator[Proposed]:
    """Yield globs of an image family with one file a channel: each mask has the same several ends of names."""
    tails: dict[str, set[str]] = defaultdict(set)
    for key in image.keys(("", "")):
        place = max(key.rfind(delimiter) for delimiter in "_-")
        if place > 0:
            tails[key[:place]].add(key[place:])
    kinds = {frozenset(ends) for ends in tails.values()}
    if len(kinds) != 1 or len(tails) < 2 or len(ends := sorted(next(iter(kinds)))) < 2:
        return
    for affix in mask.affixes:
        if mask.keys(affix) == set(tails):
            params = {"images": image.glob(("", CHANNEL)), "masks": mask.glob(affix), "stack": ends}
            yield Proposed(params, f"each mask has {len(ends)} images, which end in {', '.join(ends)}: channels", False)
