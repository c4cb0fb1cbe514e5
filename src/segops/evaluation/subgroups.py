"""The subgroups that a table of scores by image falls into: modalities, image sizes, groups of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

SIDES_PX = (256, 512, 1024, 2048)  # upper ends of the size bins, of the longer side


class Subgroup(NamedTuple):
    """Holds images that have something in common.

    Attributes:
        kind: modality, size or group.
        name: of the modality or the group; of a size the range of the longer side, such as `257-512 px`.
        rows: the table's rows of these images, in its order.
    """

    kind: str
    name: str
    rows: pd.DataFrame


def subgroups(table: pd.DataFrame, *, min_group_images: int) -> list[Subgroup]:
    """Split a table into modalities by name, sizes ascending, and groups by name.

    A kind with one subgroup says nothing new and is left out.

    Args:
        table: with the columns modality, height, width and group_id.
        min_group_images: groups with fewer images are left out. A data set can have hundreds of them.
    """
    bins = table[["height", "width"]].max(axis=1).map(_bin)
    found: list[Subgroup] = []
    for kind, labels, names in (
        ("modality", table["modality"].astype(str), str),
        ("size", bins, _size_name),
        ("group", table["group_id"].astype(str), str),
    ):
        parts = [(label, rows) for label, rows in table.groupby(labels, sort=True)]
        if len(parts) > 1:
            enough = [part for part in parts if kind != "group" or len(part[1]) >= min_group_images]
            found += [Subgroup(kind, names(label), rows) for label, rows in enough]
    return found


def _bin(side_px: int) -> int:
    """Return the index of the size bin of a longer side."""
    return sum(side_px > end for end in SIDES_PX)


def _size_name(index: int) -> str:
    """Name a size bin by its range, such as `257-512 px`."""
    if index == len(SIDES_PX):
        return f"over {SIDES_PX[-1]} px"
    return f"{SIDES_PX[index - 1] + 1 if index else 1}-{SIDES_PX[index]} px"
