"""Reads the Brain Imaging Data Structure's microscopy layout (BIDS 1.7 and later, Bourget et al. 2022).

`sub-<label>/[ses-<label>/]micr/sub-<label>_.._<suffix>.<extension>` holds an image; its masks are derivatives,
`derivatives/<name>/sub-<label>/[ses-<label>/]micr/<the image's name>_<what it is>.<extension>`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from segops.data.layouts.pairing import Members, Pair, check_paired, describe_names, first, is_image
from segops.errors import UserError
from segops.params.ingest import IngestParams

# BIDS 1.10, "Microscopy": suffixes of micr/.
_SUFFIXES = "TEM|SEM|uCT|BF|DF|PC|DIC|FLUO|CONF|PLI|CARS|2PE|MPE|SR|NLO|OCT|SPIM|XPCT"
_FOLDER = r"(?P<subject>sub-[A-Za-z0-9+]+)/(?:ses-[A-Za-z0-9+]+/)?micr/"
_IMAGE = re.compile(rf"(?:[^/]+/)?{_FOLDER}(?P<stem>(?P=subject)_(?:[^/]*_)?(?P<suffix>{_SUFFIXES}))\.[^/]+")
_DERIVATIVE = re.compile(rf"(?:[^/]+/)?derivatives/[^/]+/{_FOLDER}(?P<stem>(?P=subject)_[^/]*)\.[^/]+")


def bids(source: Members, params: IngestParams) -> list[Pair]:
    """Pair images of `micr/` with the derivative that `ingest.masks` names.

    A subject is a group, the image's suffix the modality. `ingest.masks` is what follows the image's name in the
    derivative's, such as `seg-axonmyelin-manual`.

    Raises: UserError: no image, no such derivative (the text lists those there are), an image without it or with two.
    """
    images = _by_stem(source.names, _IMAGE, "derivatives/")
    if not images:
        raise UserError(
            f"layout bids finds no sub-*/micr/*_SEM.png or other microscopy; {describe_names(source.names, params)}"
        )
    derivatives = _derivatives(source.names, images)
    wanted = params.masks.strip("_")
    if wanted not in derivatives:
        kinds = first(sorted(derivatives)) or "none"
        raise UserError(f"ingest.masks: no derivative of an image is called '{params.masks}'; there are: {kinds}")
    masks = derivatives[wanted]
    check_paired([names[0] for stem, names in images.items() if stem not in masks], [], params)
    images = {stem: names for stem, names in images.items() if stem in masks}
    for stem, names in (*images.items(), *masks.items()):
        if len(names) > 1:
            raise UserError(f"{names[0]} and {names[1]} are both '{stem}'; keep one of them")
    pairs = []
    for stem, names in images.items():
        match = _IMAGE.fullmatch(names[0])
        assert match is not None
        pairs.append(Pair(stem, names[0], (masks[stem][0],), "values", match["subject"], match["suffix"]))
    return pairs


def _by_stem(names: Sequence[str], pattern: re.Pattern[str], without: str) -> dict[str, list[str]]:
    """Return by stem the images whose names match a pattern and don't begin with `without`."""
    stems: dict[str, list[str]] = defaultdict(list)
    for name in names:
        match = pattern.fullmatch(name)
        if match and is_image(name) and not name.startswith(without):
            stems[match["stem"]].append(name)
    return stems


def _derivatives(names: Sequence[str], images: dict[str, list[str]]) -> dict[str, dict[str, list[str]]]:
    """Sort the derivatives by what they are, then by the image's stem."""
    derivatives: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in names:
        match = _DERIVATIVE.fullmatch(name)
        if not match or not is_image(name):
            continue
        owner = _owner(PurePosixPath(name).stem, images)
        if owner is not None:
            derivatives[match["stem"].removeprefix(f"{owner}_")][owner].append(name)
    return derivatives


def _owner(stem: str, images: dict[str, list[str]]) -> str | None:
    """Return the longest image name that a derivative's name begins with."""
    parts = stem.split("_")
    heads = ("_".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
    return next((head for head in heads if head in images), None)
