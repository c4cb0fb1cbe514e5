"""split.html: how the images are divided, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from segops.contracts.base import SUBSETS, Subset
from segops.contracts.dataset import Dataset
from segops.contracts.split import Split
from segops.contracts.volumes import size_words

if TYPE_CHECKING:
    import pandas as pd

SPLIT_PAGE = "split.html"
_KINDS = 6  # rows of a column's values, the most frequent first
_TERCILES = ("least foreground", "middle foreground", "most foreground")


def split_page(
    about: Dataset, manifest: pd.DataFrame, table: pd.DataFrame, result: Split, fractions: Sequence[float]
) -> str:
    """Render the page about a split as HTML.

    Args:
        manifest: MANIFEST_COLUMNS.
        table: SPLIT_COLUMNS, with the manifest's rows.
        fractions: of train, val and test that were asked for; empty: none were.
    """
    from segops.reports.charts.split import balance, by_subset
    from segops.reports.pages import render

    rows = manifest.assign(subset=table["subset"].to_numpy())
    columns = {"Foreground fraction": "foreground_fraction", "Mean intensity": "intensity_mean", "Objects": "instances"}
    if (rows["instances"] < 0).any():
        del columns["Objects"]
    return render(
        "split.html.j2",
        dataset=about,
        split=result,
        subsets=SUBSETS,
        asked=bool(fractions),
        balance=balance(_counts(rows, about.classes), fractions),
        charts=[
            (
                title,
                by_subset(title, {name: rows.loc[rows["subset"] == name, column].to_numpy(float) for name in SUBSETS}),
            )
            for title, column in columns.items()
        ],
    )


def _counts(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, dict[Subset, int]]:
    """Count images by subset: all, their groups, by modality, size and foreground, and those that show a class."""
    counts = {"images": _by_subset(rows), "groups by subset": _by_subset(rows.drop_duplicates(["group_id", "subset"]))}
    sizes = rows[["depth", "height", "width"]].apply(size_words, axis=1) + " px"
    terciles = rows["foreground_fraction"].rank(method="first", pct=True).map(lambda rank: _TERCILES[int(rank * 2.999)])
    for kinds in (rows["modality"], sizes, terciles):
        names = list(_TERCILES) if kinds is terciles else kinds.value_counts().head(_KINDS).index.tolist()
        if len(names) > 1:
            counts |= {str(name): _by_subset(rows[kinds == name]) for name in names}
    shown = rows["classes"].str.split()
    for index, name in enumerate(classes[1:], start=1):
        counts[f"with {name}"] = _by_subset(rows[[str(index) in indices for indices in shown]])
    return counts


def _by_subset(rows: pd.DataFrame) -> dict[Subset, int]:
    """Count rows by subset."""
    return {name: int((rows["subset"] == name).sum()) for name in SUBSETS}
