"""Proposes folders and globs: files of one role under folders of one shape are a family, and two families may pair."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from segops.errors import UserError
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
        shape: the folders' parts from the source's root; None where they differ from file to file.
        names: the files.
    """

    shape: tuple[str | None, ...]
    names: tuple[str, ...]

    @cached_property
    def stems(self) -> list[str]:
        """The files' names without suffix."""
        return [PurePosixPath(name).stem for name in self.names]

    @cached_property
    def affixes(self) -> list[Affix]:
        """Beginnings and ends that all stems share."""
        return affixes(self.stems)

    @property
    def plain(self) -> str | None:
        """The folder that holds all of them, up to the part that names the role; None where it differs."""
        roles = [place for place, part in enumerate(self.shape) if part is not None and role(part)]
        shape = self.shape[: roles[-1] + 1] if roles else self.shape
        return None if None in shape else "/".join(part for part in shape if part) or "."

    def glob(self, affix: Affix) -> str:
        """The pattern of the family, with a wildcard where its files' folders and names differ."""
        suffixes = {PurePosixPath(name).suffix.lower() for name in self.names}
        end = affix[1] + suffixes.pop() if len(suffixes) == 1 else affix[1]
        return "/".join([*("*" if part is None else part for part in self.shape), f"{affix[0]}*{end}"])

    def keys(self, affix: Affix) -> set[str]:
        """What the pattern's wildcards stand for, by file."""
        begin, end = affix
        return {
            "/".join([*self._varying(name), stem[len(begin) : len(stem) - len(end)]])
            for name, stem in zip(self.names, self.stems, strict=True)
        }

    def _varying(self, name: str) -> list[str]:
        parts = name.split("/")[:-1]
        return [part for part, shape in zip(parts, self.shape, strict=True) if shape is None]


def folder_proposals(files: Sequence[str]) -> Iterator[Proposed]:
    """Yield folders and globs by which files whose names say mask may pair with the others."""
    images, masks = _by_role(files)
    couples = [(image, mask) for mask in _families(masks) for image in _families(images)]
    for image, mask in couples:
        if image.plain and mask.plain and image.plain != mask.plain:
            params = {"images": image.plain, "masks": mask.plain}
            yield Proposed(params, f"folders {image.plain} and {mask.plain} hold files of the same names", True)
    for image, mask in couples:
        yield from _globs(image, mask)
    for image, mask in couples:
        yield from _stacks(image, mask)


def mask_candidates(files: Sequence[str], read: Callable[[str], bytes]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield globs of files of equal names but for folder, end or suffix, of which one holds as few values as a mask."""
    kinds = sorted(_kinds(files).items(), key=lambda kind: -len(kind[1]))[:_MOST_FAMILIES]
    likely = {glob: _holds_few_values(next(iter(members.values())), read) for glob, members in kinds}
    for images, of_images in kinds:
        for masks, of_masks in kinds:
            if likely[masks] and not likely[images] and set(of_images) == set(of_masks):
                why = f"names of {images} and {masks} pair, and the first of {masks} holds few values"
                yield {"images": images, "masks": masks}, why


def _kinds(files: Sequence[str]) -> dict[str, dict[str, str]]:
    """Part files by folder, suffix and an end that follows another file's name; return names by glob and by stem."""
    stems: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in files:
        path = PurePosixPath(name)
        stems[str(path.parent), path.suffix].append(path.stem)
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

    try:
        array_HWC = decode(read(name), name, "values").array_HWC
    except UserError:
        return False
    return len(np.unique(array_HWC.reshape(-1, array_HWC.shape[-1]), axis=0)) <= _FEW_VALUES


def _by_role(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part files into images and masks: by the last folder whose name says what it holds, else by the file's name."""
    common = os.path.commonpath([PurePosixPath(name).parent for name in files]) if files else ""
    images: list[str] = []
    masks: list[str] = []
    for name in files:
        path = PurePosixPath(name)
        roles = [role(part) for part in path.relative_to(common or ".").parts[:-1]]
        of_folder = next((said for said in reversed(roles) if said), None)
        is_mask = "mask" in (of_folder, role(path.stem))
        (masks if is_mask else images).append(name)
    return images, masks


def _families(names: Sequence[str]) -> list[Family]:
    """Part files of a role into families by the folders' roles, the largest first, then those of a single folder."""
    by_shape: dict[tuple[str | None, ...], list[str]] = defaultdict(list)
    by_folder: dict[tuple[str | None, ...], list[str]] = defaultdict(list)
    for name in names:
        folder = tuple(name.split("/")[:-1])
        by_shape[tuple(part if role(part) else None for part in folder)].append(name)
        by_folder[folder].append(name)
    merged = [Family(_literal(shape, members), tuple(members)) for shape, members in by_shape.items()]
    single = [Family(shape, tuple(members)) for shape, members in by_folder.items()]
    single = [family for family in single if family.shape not in {other.shape for other in merged}]
    return _largest(merged) + (_largest(single) if len(single) <= _MOST_FAMILIES else [])


def _literal(shape: Sequence[str | None], members: Sequence[str]) -> tuple[str | None, ...]:
    """Return a shape with the parts that all members share."""
    columns = zip(*(name.split("/")[:-1] for name in members), strict=True)
    same = [values[0] if len(set(values)) == 1 else None for values in columns]
    return tuple(part or other for part, other in zip(shape, same, strict=True))


def _largest(families: list[Family]) -> list[Family]:
    return sorted(families, key=lambda family: -len(family.names))[:_MOST_FAMILIES]


def _globs(image: Family, mask: Family) -> Iterator[Proposed]:
    """Yield globs of two families, those with the shortest affixes first."""
    options = [(own, other) for own in image.affixes for other in mask.affixes]
    for own, other in sorted(options, key=lambda affix: len("".join([*affix[0], *affix[1]]))):
        images, masks = image.keys(own), mask.keys(other)
        if 2 * len(images & masks) > min(len(images), len(masks)):
            params = {"images": image.glob(own), "masks": mask.glob(other)}
            yield Proposed(params, f"names pair as {params['images']} with {params['masks']}", True)


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
            params = {"images": image.glob(("", "")), "masks": mask.glob(affix), "stack": ends}
            yield Proposed(params, f"each mask has {len(ends)} images, which end in {', '.join(ends)}: channels", False)
