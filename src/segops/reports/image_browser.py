"""Every image of validation and test with what all candidates make of it: the data of a page's browser of images.

The pictures of a page are bounded. Images on which some candidate is bad come first; those beyond the bound keep their
row with its scores. Axes: H height, W width.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from segops.contracts.masks import IGNORED
from segops.contracts.per_image import class_columns
from segops.contracts.pixel_size import KnownPixels
from segops.evaluation.presence import in_truth
from segops.files import MIB
from segops.pictures.heat_maps import heat
from segops.pictures.images import jpeg
from segops.pictures.overlays import over

if TYPE_CHECKING:
    from segops.comparison.entrants import Entrant

FOREGROUND, NONE = "with foreground", "without foreground"
_MOST_WITH_ALL_PAIRS = 4  # candidates; of more, images are sorted by the leader's differences alone


@dataclass(frozen=True)
class ImageBrowser:
    """Holds what the browser of a page shows.

    Attributes:
        data: JSON for the page's script: names of candidates, pairs by place, and a row for each image.
        images: all of validation and test.
        with_pictures: how many of them have pictures in the page.
        kept: how many of them `evaluate` kept pictures of.
        ignores: whether a truth that is shown has ignored pixels.
    """

    data: Markup
    images: int
    with_pictures: int
    kept: int
    ignores: bool


def image_browser(ranked: Sequence[Entrant], page_mib: float) -> ImageBrowser:
    """Collect the rows of all candidates by image, and pictures up to `page_mib`.

    Args:
        ranked: candidates that were judged on the same images, the best first.
    """
    rows = _rows(ranked)
    kept = set.intersection(*(entrant.thumbnails.image_ids for entrant in ranked))
    left, ignores, shown = page_mib * MIB, False, 0
    for row in sorted((row for row in rows if row["id"] in kept), key=_worst_first):
        truth_HW, _ = ranked[0].thumbnails.masks(row["id"])
        pictures = dict(_pictures(row["id"], ranked))
        left -= sum(map(len, _texts(pictures)))
        if left < 0:
            break
        row["pictures"] = pictures
        ignores |= bool((truth_HW == IGNORED).any())
        shown += 1
    pairs = list(combinations(range(len(ranked)), 2))
    if len(ranked) > _MOST_WITH_ALL_PAIRS:
        pairs = [pair for pair in pairs if pair[0] == 0]
    data = {"candidates": [entrant.name for entrant in ranked], "pairs": pairs, "rows": rows}
    return ImageBrowser(_json(data), len(rows), shown, len(kept), ignores)


def _rows(ranked: Sequence[Entrant]) -> list[dict[str, Any]]:
    """Return a row for each image: what it is, which classes its truth has, and each candidate's Dice."""
    leader = ranked[0]
    tables = [entrant.judged.per_image.set_index(["subset", "image_id"]) for entrant in ranked]
    table = leader.judged.per_image
    table = table[table["subset"].isin(("val", "test"))].reset_index(drop=True)
    shown: dict[str, pd.Series[bool]] = {FOREGROUND: in_truth(table), NONE: ~in_truth(table)}
    shown |= {name: in_truth(table, own) for name, own in class_columns(leader.evaluation.classes).items()}
    return [
        {
            "id": row["image_id"],
            "group": row["group_id"],
            "modality": row["modality"],
            "subset": "validation" if row["subset"] == "val" else "test",
            "size": _size(row),
            "classes": [name for name, has in shown.items() if has[i]],
            "dice": [_known(scores["dice"].get((row["subset"], row["image_id"]))) for scores in tables],
        }
        for i, row in enumerate(table.to_dict("records"))
    ]


def _size(row: Mapping[Any, Any]) -> str:
    """Word an image's size, and its pixels' where it is known."""
    sides = [row.get("pixel_height_um", np.nan), row.get("pixel_width_um", np.nan)]
    known = KnownPixels.of([None if np.isnan(sides).any() else (sides[0], sides[1])])
    return f"{row['height']}x{row['width']} px" + (f" of {known.words} µm" if known else "")


def _known(value: Any) -> float | None:
    """Return a score; None where it is undefined."""
    return None if value is None or np.isnan(value) else float(value)


def _worst_first(row: dict[str, Any]) -> tuple[float, str]:
    """Order images by the lowest Dice of any candidate; those without one come last."""
    return min((dice for dice in row["dice"] if dice is not None), default=2.0), row["id"]


def _pictures(image_id: str, ranked: Sequence[Entrant]) -> Iterator[tuple[str, Any]]:
    """Yield the pictures of an image as data URIs: itself, its truth, and each candidate's mask and confidence."""
    colours, source = ranked[0].trained.class_colours, ranked[0].thumbnails
    truth_HW, _ = source.masks(image_id)
    yield "ratio", f"{truth_HW.shape[1]} / {truth_HW.shape[0]}"
    yield "image", _uri("jpeg", source.image(image_id))
    yield "truth", _uri("png", over(truth_HW, truth_HW, colours, source.seams(image_id)[0]))
    masks, confidences = [], []
    for entrant in ranked:
        _, predicted_HW = entrant.thumbnails.masks(image_id)
        _, seams_HW = entrant.thumbnails.seams(image_id)
        masks.append(_uri("png", over(truth_HW, predicted_HW, colours, seams_HW)))
        confidence_HW = entrant.thumbnails.confidence(image_id)
        confidences.append(None if confidence_HW is None else _uri("jpeg", jpeg(heat(confidence_HW))))
    yield "masks", masks
    yield "confidences", confidences


def _texts(pictures: dict[str, Any]) -> Iterator[str]:
    """Yield the data URIs of an image's pictures."""
    for value in pictures.values():
        yield from filter(None, value if isinstance(value, list) else [value])


def _json(data: dict[str, Any]) -> Markup:
    """Write data for a script element: no text in it can end the element."""
    text = json.dumps(data, separators=(",", ":"))
    return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))  # noqa: S704


def _uri(kind: str, content: bytes) -> str:
    """Encode a picture's bytes as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
