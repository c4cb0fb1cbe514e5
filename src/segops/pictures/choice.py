"""Chooses the images that pages and runs show of a subset."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def choose_examples(table: pd.DataFrame, each: int) -> dict[str, list[str]]:
    """Choose image ids for Worst, Median and Best by Dice (ties by id), at most `each` per section.

    No image is in two sections; images in which Dice is undefined are left out.

    Args:
        table: rows of per_image.csv with `image_id` and `dice`.
        each: how many images a section shows when there are enough.
    """
    order = table.dropna(subset="dice").sort_values(["dice", "image_id"])["image_id"].astype(str).tolist()
    each = min(each, max(1, len(order) // 3))
    worst, rest = order[:each], order[each:]
    best, between = rest[-each:][::-1], rest[:-each]
    begin = max(0, (len(between) - each) // 2)
    return {"Worst": worst, "Median": between[begin : begin + each], "Best": best}


def choose_shared(table: pd.DataFrame, most: int) -> list[str]:
    """Choose image ids by their hash, one per group first: the same for all candidates judged on a test set.

    Args:
        table: rows of per_image.csv with `image_id` and `group_id`.
        most: how many, when there are enough.
    """
    hashed = table.sort_values("image_id", key=lambda ids: ids.map(_digest))
    turns = hashed.assign(turn=hashed.groupby("group_id").cumcount()).sort_values("turn", kind="stable")
    return turns["image_id"].astype(str).tolist()[:most]


def _digest(image_id: object) -> str:
    """Hash an image id, for an order that doesn't follow names."""
    return hashlib.sha256(str(image_id).encode()).hexdigest()
