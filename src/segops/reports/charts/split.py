"""How a split divides a dataset: shares of what there is, and distributions by subset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from segops.contracts.base import SUBSETS, Subset
from segops.reports.charts.svg import INK, SERIES, Tips, drawing

COLOURS: dict[Subset, str] = dict(zip(SUBSETS, SERIES, strict=False))
_WIDTH_IN, _ROW_IN, _FRAME_IN = 10.0, 0.34, 0.7
_TITLE = 34  # characters of a row's name


def balance(rows: Mapping[str, Mapping[Subset, int]], fractions: Sequence[float]) -> Markup:
    """Draw a bar for each row, divided by the subsets' shares, with lines where the asked fractions end.

    Args:
        rows: counts by subset; those of all subsets are the whole bar.
        fractions: of train, val and test that were asked for; empty: none were.
    """
    totals = {name: sum(counts.values()) for name, counts in rows.items()}

    def draw(panels: list[Axes]) -> Tips:
        (axes,) = panels
        tips: dict[str, list[str]] = {}
        left = np.zeros(len(rows))
        for subset in SUBSETS:
            shares = np.array([counts[subset] / max(1, totals[name]) for name, counts in rows.items()])
            bars = axes.barh(range(len(rows)), shares, left=left, height=0.66, color=COLOURS[subset], alpha=0.85)
            for row, (bar, (name, counts)) in enumerate(zip(bars, rows.items(), strict=True)):
                bar.set_gid(f"{subset} {row}")
                tips[f"{subset} {row}"] = [f"{name}, {subset}: {counts[subset]:,} of {totals[name]:,}"]
            left += shares
        for end in np.cumsum(fractions)[:-1]:
            axes.axvline(float(end), color=INK, linewidth=1, linestyle="--")
        axes.set_yticks(range(len(rows)), [f"{name[:_TITLE]} ({totals[name]:,})" for name in rows])
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(visible=False, axis="y")
        return tips

    return drawing("balance", "Shares of train, val and test", (_WIDTH_IN, _FRAME_IN + _ROW_IN * len(rows)), draw)


def by_subset(name: str, values: Mapping[Subset, npt.NDArray[np.float64]]) -> Markup:
    """Draw the share of each subset's images that lie at or below a value.

    Args:
        name: of the chart, which no other of the page has.
    """

    def draw(panels: list[Axes]) -> Tips:
        (axes,) = panels
        for subset, sample in values.items():
            if len(sample):
                axes.ecdf(sample, color=COLOURS[subset], linewidth=2)
        axes.set(ylim=(-0.02, 1.02), yticks=(0, 0.5, 1), ylabel="share of images")
        return {}

    return drawing(name, f"cumulative shares of {name} by subset", (4.0, 1.8), draw)
