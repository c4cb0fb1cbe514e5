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
    "image", "img", "jpegimage", "input", "raw", "original", "orig", "photo", "picture", "scan", "slide", "rgb",
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

    Of `a_mask`, `b_mask` these are none, and the end `_mask`. An affix starts or ends at a delimiter or where small
    letters meet capitals, and leaves a name.
    """
    options = [("", "")]
    if len(stems) > 1:
        end = _common_end(stems)
        begin = _common_beginning(stems)
        options += [("", text) for text in _cuts(end)] + [(text, "") for text in _cuts(begin, at_start=True)]
    return options


def common_words(names: Sequence[str]) -> set[str]:
    """Return the words that stand in all names."""
    return set.intersection(*(set(words(name)) for name in names)) if names else set()


def _common_beginning(stems: Sequence[str]) -> str:
    """Return what all stems begin with, less than the shortest of them."""
    shortest = min(map(len, stems)) - 1
    columns = zip(*(stem[:shortest] for stem in stems), strict=True)
    return "".join(letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, columns))


def _common_end(stems: Sequence[str]) -> str:
    """Return what all stems end with, less than the shortest of them."""
    return _common_beginning([stem[::-1] for stem in stems])[::-1]


def _cuts(text: str, *, at_start: bool = False) -> list[str]:
    """Return the parts of a common beginning or end that start at a delimiter or a capital, the shortest first."""
    if at_start:
        places = [place + 1 for place in range(len(text)) if text[place] in _DELIMITERS]
        return [text[:place] for place in places]
    places = [place for place in range(len(text)) if text[place] in _DELIMITERS or _capital(text, place)]
    return [text[place:] for place in reversed(places)]


def _capital(text: str, place: int) -> bool:
    """Return whether a word of a capital letter begins at a place."""
    return text[place].isupper() and not text[place - 1 : place].isupper()
