"""The comparison page's charts: Dice with intervals, paired differences, images as dots and as histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from segops.comparison.paired import HALVES, Half
from segops.comparison.verdict import SUBSETS
from segops.contracts.scores import Interval, PairedDifference, Standing
from segops.reports.charts.svg import ACCENT, INK, SERIES, SOFT, WARN, Tips, drawing
from segops.reports.palette import GREY  # in a picture inside the SVG no variable of the page is known

HOVER = 1000  # images of a subset whose dot says its name; further ones, those that differ least, are one picture
_COLOURS: dict[Half, str] = {"val": ACCENT, "test": WARN}
_OFFSETS: dict[Half, float] = {"val": -0.14, "test": 0.14}
_WIDTH_IN, _ROW_IN, _FRAME_IN = 10.0, 0.55, 0.95


def dice_intervals(standings: Sequence[Standing]) -> Markup:
    """Draw a row per candidate: mean Dice as a dot, its interval as a line, validation above test."""
    named: list[tuple[str, dict[Half, Interval]]] = [
        (standing.candidate, {"val": standing.val_dice, "test": standing.test_dice}) for standing in standings
    ]
    return _intervals("dice", "Dice of each candidate with its interval", "Dice", named)


def difference_intervals(name: str, differences: Sequence[PairedDifference]) -> Markup:
    """Draw a row per pair: mean paired difference as a dot, its interval as a line, and a line at 0."""
    pairs: dict[str, dict[Half, Interval]] = {}
    for pair in differences:
        pairs.setdefault(f"{pair.a} - {pair.b}", {})[pair.subset] = pair.difference
    label = "Difference of Dice of each pair with its interval"
    return _intervals(name, label, "difference of Dice", list(pairs.items()), zero=True)


def scatter(a: str, b: str, tables: Mapping[Half, pd.DataFrame]) -> Markup:
    """Draw the Dice of every image, `a` upwards against `b` to the right.

    Args:
        tables: of `paired_rows`, by subset.
    """

    def draw(panels: list[Axes]) -> Tips:
        (axes,) = panels
        low = min(float(rows[["dice_a", "dice_b"]].to_numpy().min()) for rows in tables.values())
        axes.axline((1, 1), slope=1, color=SOFT, linestyle="--", linewidth=0.8)
        low = max(-0.02, low - 0.04)
        axes.set(xlim=(low, 1.005), ylim=(low, 1.005), aspect="equal", xlabel=f"Dice of {b}", ylabel=f"Dice of {a}")
        tips: dict[str, list[str]] = {}
        for subset, rows in tables.items():
            order = rows.assign(size=-rows["change"].abs()).sort_values(["size", "image_id"])
            rest = order.iloc[HOVER:]
            if len(rest):
                axes.scatter(rest["dice_b"], rest["dice_a"], s=6, color=GREY, alpha=0.5, rasterized=True, zorder=1)
            shown = order.iloc[:HOVER]
            style: dict[str, Any] = {"facecolor": ACCENT, "alpha": 0.6, "linewidth": 0}
            if subset == "test":
                style = {"facecolor": "none", "edgecolor": WARN, "linewidth": 1.2}
            axes.scatter(
                shown["dice_b"], shown["dice_a"], s=26, gid=subset, label=SUBSETS[subset], clip_on=False, **style
            )
            tips[subset] = [
                f"{image_id}, group {group_id} ({SUBSETS[subset]}): {a} {up:.3f}, {b} {right:.3f}"
                for image_id, group_id, up, right in zip(
                    shown["image_id"], shown["group_id"], shown["dice_a"], shown["dice_b"], strict=True
                )
            ]
        axes.legend(loc="lower right")
        return tips

    return drawing(f"scatter {a} {b}", f"Dice by image: {a} against {b}", (5.2, 5.2), draw)


def dice_histograms(tables: Mapping[str, Mapping[Half, pd.DataFrame]]) -> Markup:
    """Draw how many images have a Dice in each twentieth of 0 to 1, a line per candidate; validation on the left.

    Args:
        tables: columns of per_image.csv by candidate and subset; an undefined Dice isn't counted.
    """
    edges = np.linspace(0, 1, 21)

    def draw(panels: list[Axes]) -> Tips:
        for axes, subset in zip(panels, HALVES, strict=True):
            for number, (name, by_subset) in enumerate(tables.items()):
                counts, _ = np.histogram(by_subset[subset]["dice"].dropna(), bins=edges)
                colour = SERIES[number % len(SERIES)]
                axes.stairs(counts, edges, color=colour, linewidth=1.8, label=name)
                axes.stairs(counts, edges, color=colour, fill=True, alpha=0.12, linewidth=0)
            axes.set(title=SUBSETS[subset], xlim=(0, 1), xlabel="Dice of an image", ylabel="images")
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.grid(visible=False, axis="x")
        panels[0].legend(loc="upper left")
        return {}

    return drawing("histograms", "Number of images by Dice, by candidate", (10.0, 3.2), draw, panels=2)


def _intervals(
    name: str,
    label: str,
    axis: str,
    named: Sequence[tuple[str, Mapping[Half, Interval]]],
    *,
    zero: bool = False,
) -> Markup:
    """Draw named means and intervals, one row per name; with `zero` a line at 0 too."""

    def draw(panels: list[Axes]) -> Tips:
        (axes,) = panels
        tips: dict[str, list[str]] = {}
        if zero:
            axes.axvline(0, color=INK, linewidth=0.9)
        for row, (title, by_subset) in enumerate(named):
            for subset, interval in by_subset.items():
                up, colour, key = row + _OFFSETS[subset], _COLOURS[subset], f"{subset} {row}"
                if interval.low is not None and interval.high is not None:
                    axes.plot([interval.low, interval.high], [up, up], color=colour, linewidth=2, solid_capstyle="butt")
                face = colour if subset == "val" else "none"
                dot_label = SUBSETS[subset] if row == 0 else None
                axes.scatter(
                    [interval.mean], [up], s=44, facecolor=face, edgecolor=colour, gid=key, label=dot_label, zorder=3
                )
                tips[key] = [f"{title}, {SUBSETS[subset]}: {interval.words(4, signed=zero)}"]
        axes.set_yticks(range(len(named)), [title for title, _ in named])
        axes.set_ylim(len(named) - 0.5, -0.5)
        axes.set_xlabel(axis)
        axes.grid(visible=False, axis="y")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return tips

    return drawing(name, label, (_WIDTH_IN, _FRAME_IN + _ROW_IN * len(named)), draw)
