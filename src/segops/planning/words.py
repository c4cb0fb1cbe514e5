"""Knows the words by which people name images, masks, groups and the parts of a group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Literal

Role = Literal["image", "mask"]

_MASK_WORDS = frozenset({
    "mask", "label", "gt", "groundtruth", "truth", "seg", "segm", "segmentation", "segmented", "annotation",
    "annotated", "annot", "anno", "manual", "lesion", "target", "trimap", "instance", "matte", "lbl", "msk",
})  # fmt: skip
_IMAGE_WORDS = frozenset({
    "image", "img", "jpegimage", "input", "raw", "original", "orig", "photo", "picture", "rgb",
})  # fmt: skip
# "labelsTr", "1st_manual1", "GroundTruth" and "JPEGImages" are read as words.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_DELIMITERS = "_-. "


def words(text: str) -> list[str]:
    """Return the words of a name in small letters, parted by delimiters, digits and capital letters."""
    return [word.lower() for word in _WORD.findall(text)]


def role(text: str) -> Role | None:
    """Return what a folder's or a file's name says that it holds: images, masks, or nothing of either."""
    spoken = [*words(text), text.lower()]
    if {word.removesuffix("s") for word in spoken} & _MASK_WORDS or "ground_truth" in text.lower():
        return "mask"
    return "image" if {word.removesuffix("s") for word in spoken} & _IMAGE_WORDS else None


def affixes(stems: Sequence[str]) -> list[tuple[str, str]]:
    """Return beginnings and ends that all stems share and that may say what the files are, the simplest first.

    Of `a_mask`, `b_mask` these are none, and the end `_mask`. A beginning ends after a delimiter or where digits follow
    letters, an end starts at a delimiter or where a capital follows small letters; each leaves a part of the name.
    """
    options = [("", "")]
    if len(set(stems)) > 1:
        stem, shared = stems[0], _common_beginning([stem[::-1] for stem in stems])
        begins = [place for place in range(1, _common_beginning(stems) + 1) if _begin_ends(stem, place)]
        ends = [place for place in range(len(stem) - shared, len(stem)) if _end_starts(stem, place)]
        options += [("", stem[place:]) for place in reversed(ends)] + [(stem[:place], "") for place in begins]
    return options


def _common_beginning(stems: Sequence[str]) -> int:
    """Return how many characters all stems share at the beginning, less than the shortest of them has."""
    most = min(map(len, stems)) - 1
    columns = zip(*(stem[:most] for stem in stems), strict=True)
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, columns))


def _begin_ends(stem: str, place: int) -> bool:
    return stem[place - 1] in _DELIMITERS or (stem[place - 1].isalpha() and stem[place].isdigit())


def _end_starts(stem: str, place: int) -> bool:
    return stem[place] in _DELIMITERS or (stem[place].isupper() and not stem[place - 1 : place].isupper())
