"""Pairs the members of a source: which image has which masks, and which images belong together.

A new layout is a function from a source to pairs and a line in LAYOUTS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from segops.data.layouts.about import joined
from segops.data.layouts.annotated import coco, run_lengths
from segops.data.layouts.bids import bids
from segops.data.layouts.decathlon import decathlon
from segops.data.layouts.dicom import dicom
from segops.data.layouts.folders import dsb2018, pairs
from segops.data.layouts.names import identifiers
from segops.data.layouts.pairing import Members, Pair, describe_names
from segops.data.layouts.patterns import is_match
from segops.data.layouts.table import table
from segops.errors import UserError
from segops.params.ingest import IngestParams

LAYOUTS: dict[str, Callable[[Members, IngestParams], list[Pair]]] = {
    "dsb2018": dsb2018,
    "pairs": pairs,
    "bids": bids,
    "csv": table,
    "coco": coco,
    "run_lengths": run_lengths,
    "decathlon": decathlon,
    "dicom": dicom,
}


@dataclass(frozen=True)
class Example:
    """A pair with its id and its group."""

    image_id: str
    group_id: str
    pair: Pair


def find_examples(source: Members, params: IngestParams) -> list[Example]:
    """Pair the members of a source as `ingest.layout` says.

    Under `group_by: layout` the layout's group counts, else each image is a group; `fields` leaves groups to be found
    from the pixels.

    Returns: examples sorted by image id.
    Raises: UserError: nothing found, an image without mask or a mask without image, two images of the same id, an id
        that `group_pattern` doesn't match.
    """
    if not source.names:
        raise UserError(f"ingest.source: {params.source} holds no files; point it at a folder or archive of images")
    kept = _without_excluded(source, params.exclude)
    pairs = joined(LAYOUTS[params.layout](kept, params), kept, params)
    by_key: dict[str, Pair] = {}
    for pair in pairs:
        if pair.key in by_key:
            raise UserError(f"{by_key[pair.key].image!r} and {pair.image!r} are both '{pair.key}'; rename one of them")
        by_key[pair.key] = pair
    image_ids = identifiers(by_key)
    group_ids = identifiers({pair.group for pair in pairs if pair.group is not None})
    examples = [_example(pair, image_ids[pair.key], group_ids, params) for pair in pairs]
    if not examples:
        raise UserError(f"ingest.unpaired: skip leaves no image with a mask; {describe_names(kept.names, params)}")
    return sorted(examples, key=lambda example: example.image_id)


def used_files(examples: Iterable[Example], params: IngestParams) -> set[str]:
    """Return the members that examples are read from, and the table that names them."""
    used = {name for example in examples for name in example.pair.members}
    return used | {name for name in (params.table, params.about) if name is not None}


def _without_excluded(source: Members, patterns: Sequence[str]) -> Members:
    """Return a source without the members that one of the patterns matches."""
    if not patterns:
        return source
    names = [name for name in source.names if not any(is_match(pattern, name) for pattern in patterns)]
    if not names:
        raise UserError(f"ingest.exclude: {', '.join(patterns)} leaves no file; correct it")
    return _Selected(names, source.read)


@dataclass(frozen=True)
class _Selected:
    """Some members of a source."""

    names: list[str]
    read: Callable[[str], bytes]


def _example(pair: Pair, image_id: str, group_ids: Mapping[str, str], params: IngestParams) -> Example:
    """Build the example of a pair: its id, and its group as `group_by` says."""
    group_id = image_id
    if params.group_by == "layout" and pair.group is not None:
        group_id = group_ids[pair.group]
    elif params.group_by == "pattern":
        assert params.group_pattern is not None, "params refuse group_by pattern without it"
        group_id = _match_group(params.group_pattern, image_id)
    return Example(image_id, group_id, pair)


def _match_group(pattern: str, image_id: str) -> str:
    """Return what the pattern's group matches in an image id. Raises UserError for a bad pattern or no match."""
    try:
        match = re.search(pattern, image_id)
        group = match.group(1) if match else None
    except re.error as error:
        raise UserError(f"ingest.group_pattern: '{pattern}' is not a regular expression ({error})") from None
    except IndexError:
        raise UserError(f"ingest.group_pattern: '{pattern}' has no group; put (..) around the group's name") from None
    if not group:
        raise UserError(f"ingest.group_pattern: '{pattern}' finds no group in the image id '{image_id}'; correct it")
    return group
