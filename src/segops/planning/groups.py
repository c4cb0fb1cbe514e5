"""Proposes which images belong together: by the layout, by words and counters in their names, or by their edges."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_OWNERS = (
    "patient", "subject", "subj", "participant", "donor", "animal", "mouse", "rat", "case", "specimen", "slide",
    "sample", "plate", "well", "fov", "field", "pos", "series", "pat", "sub", "p",
)  # fmt: skip
_PARTS = "slice|tile|frame|crop|patch|section|view|quadrant|row|col|level|time|sl|fr|z|t|x|y|r|c"
_SIDES = "left|right|od|os|l|r"
_SUBSETS = {"train", "training", "trainval", "val", "valid", "validation", "test", "testing", "fold"}
_COUNTER = re.compile(r"^(.+?)[_-]\d+$")
_RUNNING = re.compile(r"^(.*?)(\d+)$")
_FEWEST = 3  # groups, below which nothing can be split
_SHOWN = 4
_SHARE_IN_FIELDS, _FEWEST_TILES = 0.1, 4  # images that continue another one; fewer may be chance


@dataclass(frozen=True)
class Grouping:
    """Which images belong together.

    Attributes:
        group_by, pattern: as in `ingest`.
        groups: group by image id; of `fields` only what the images that were looked at tell.
        why: the reason, a phrase.
        sure: whether names or pixels leave no doubt.
    """

    group_by: str
    groups: Mapping[str, str]
    why: str
    sure: bool = True
    pattern: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(set(self.groups.values()))


def propose_groups(ids: Sequence[str], layout: Mapping[str, str] | None, fields: Mapping[str, str]) -> Grouping:
    """Propose a grouping of images: the surest evidence first.

    Args:
        ids: of all images.
        layout: group by image id, where the layout has groups of its own.
        fields: field by image id, as the edges of the images that were looked at tell.
    """
    for proposal in (_by_layout(layout), _by_words(ids), _by_fields(ids, fields), _by_parts(ids), _by_counter(ids)):
        if proposal is not None:
            return proposal
    why = "no name says patient, slide or field: each image counts as independent"
    if len({match[1] for match in map(_RUNNING.match, ids) if match}) == 1:
        why = "names are a running number: if neighbours are slices, frames or tiles of one thing, group them"
    return Grouping("image", {image_id: image_id for image_id in ids}, why, sure=False)


def describe_counts(groups: Mapping[str, str]) -> str:
    """Word how many groups there are and the first of them with their numbers of images."""
    counts = Counter(groups.values())
    first = ", ".join(f"{name} ({counts[name]})" for name in sorted(counts)[:_SHOWN])
    return f"{len(counts)} groups: {first}{', ..' if len(counts) > _SHOWN else ''}"


def by_pattern(ids: Sequence[str], pattern: str) -> dict[str, str] | None:
    """Return the groups that a pattern finds; None where it doesn't find one in every id."""
    matches = [re.search(pattern, image_id) for image_id in ids]
    if not all(match and match[1] for match in matches):
        return None
    return {image_id: match[1] for image_id, match in zip(ids, matches, strict=True) if match}


def _by_layout(layout: Mapping[str, str] | None) -> Grouping | None:
    """Take the layout's own groups, unless they are a split's subsets, too few, or one for each image."""
    if not layout:
        return None
    names = set(layout.values())
    subsets = {re.sub(r"[\d_-]+$", "", name.lower()) for name in names} <= _SUBSETS
    if subsets or not _FEWEST <= len(names) < len(layout):
        return None
    sure = len(layout) < 20 * len(names)
    return Grouping("layout", dict(layout), f"the layout's own {describe_counts(layout)}", sure)


def _by_words(ids: Sequence[str]) -> Grouping | None:
    """Find the word of a patient, an animal or a slide with its number in every name."""
    for pattern in _word_patterns(ids[0]):
        groups = by_pattern(ids, pattern)
        number = len(set(groups.values())) if groups else 0
        if groups and 1 < number < len(ids):
            return Grouping("pattern", groups, f"names hold {describe_counts(groups)}", pattern=pattern)
        if groups and number == len(ids) and not re.search(r"\((?i:p)[\[\\]", pattern):
            return Grouping("image", groups, "each image is named after another patient, case or slide")
    return None


def _word_patterns(example: str) -> Iterator[str]:
    """Yield patterns of the words in a name that call an owner, spelled as there, the simplest first."""
    yield r"^(TCGA[_-][A-Z0-9]{2}[_-][A-Z0-9]{4})"
    for owner in _OWNERS:
        for found in re.finditer(rf"(?:^|(?<=[_-]))(?i:{owner})(?=[_-]?[A-Za-z]{{0,2}}\d)", example):
            begin = "^" if found.start() == 0 else "(?:^|[_-])"
            yield rf"{begin}({found[0]}\d+)"
            yield rf"{begin}({found[0]}[_-]?[A-Za-z]*\d+)"


def _by_fields(ids: Sequence[str], fields: Mapping[str, str]) -> Grouping | None:
    """Take the fields that edges show, where several images continue one another."""
    sizes = Counter(fields.values())
    shared = sum(count for count in sizes.values() if count > 1)
    if shared < max(_FEWEST_TILES, _SHARE_IN_FIELDS * len(fields)):
        return None
    known = {image_id: fields.get(image_id, image_id) for image_id in ids}
    why = f"{shared} of {len(fields)} images that were looked at continue one another at their edges: tiles of fields"
    return Grouping("fields", known, why)


def _by_parts(ids: Sequence[str]) -> Grouping | None:
    """Find the ends that name slices, tiles, frames or sides."""
    kinds = {
        "slices, tiles or frames": rf"^(.+?)(?:[_-](?i:{_PARTS})[_-]?\d+)+(?:[_-].*)?$",
        "left and right": rf"^(.*\d)[_-]?(?i:{_SIDES})$",
    }
    for what, pattern in kinds.items():
        groups = by_pattern(ids, pattern)
        if groups and 1 < len(set(groups.values())) < len(ids):
            return Grouping("pattern", groups, f"names end in {what}; {describe_counts(groups)}", pattern=pattern)
        if groups and len(set(groups.values())) == 1:
            why = f"names look like {what} of a single group, which can't be split: each image counts as independent"
            return Grouping("image", {image_id: image_id for image_id in ids}, why, sure=False)
    return None


def _by_counter(ids: Sequence[str]) -> Grouping | None:
    """Find beginnings that several images share before a counter."""
    groups = by_pattern(ids, _COUNTER.pattern)
    if groups is None:
        return None
    counts = Counter(groups.values())
    shared = sum(count > 1 for count in counts.values())
    if len(counts) < _FEWEST or shared < 0.8 * len(counts):
        return None
    why = f"names share beginnings before a counter; {describe_counts(groups)}"
    return Grouping("pattern", groups, why, sure=False, pattern=_COUNTER.pattern)
