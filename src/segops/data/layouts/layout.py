"""Pairs the members of a source: which image has which masks, and which images belong together.

A new layout is a function from a source to pairs and a line in LAYOUTS.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from segops.data.layouts.bids import bids
from segops.data.layouts.folders import dsb2018, pairs
from segops.data.layouts.pairing import MaskRule, Members, Pair
from segops.data.layouts.table import table
from segops.errors import UserError
from segops.params.ingest import IngestParams

LAYOUTS: dict[str, Callable[[Members, IngestParams], list[Pair]]] = {
    "dsb2018": dsb2018,
    "pairs": pairs,
    "bids": bids,
    "csv": table,
}


@dataclass(frozen=True)
class Example:
    """A pair with its id and its group; `modality` None: nobody says it; `stacked`: further channels."""

    image_id: str
    group_id: str
    image: str
    masks: tuple[str, ...]
    mask_rule: MaskRule
    modality: str | None = None
    stacked: tuple[str, ...] = ()

    @property
    def mask_source(self) -> str:
        """The mask's member, or the folder of the masks."""
        return self.masks[0] if self.mask_rule == "values" else f"{PurePosixPath(self.masks[0]).parent}/"


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
    examples: dict[str, Example] = {}
    for pair in sorted(LAYOUTS[params.layout](source, params), key=lambda pair: pair.key):
        example = _example(pair, params)
        if example.image_id in examples:
            first = examples[example.image_id].image
            raise UserError(f"{first} and {pair.image} would both get the id '{example.image_id}'; rename one of them")
        examples[example.image_id] = example
    return [examples[image_id] for image_id in sorted(examples)]


def _example(pair: Pair, params: IngestParams) -> Example:
    """Build the example of a pair: its id, and its group as `group_by` says."""
    image_id = _identifier(pair.key)
    group_id = image_id
    if params.group_by == "layout" and pair.group is not None:
        group_id = _identifier(pair.group)
    elif params.group_by == "pattern":
        assert params.group_pattern is not None, "params refuse group_by pattern without it"
        group_id = _match_group(params.group_pattern, image_id)
    return Example(image_id, group_id, pair.image, pair.masks, pair.mask_rule, pair.modality, pair.stacked)


def _identifier(key: str) -> str:
    """Return an id without dots and slashes: anything but letters, digits, '_' and '-' becomes '_'."""
    return re.sub(r"[^\w-]", "_", unicodedata.normalize("NFC", key))


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
