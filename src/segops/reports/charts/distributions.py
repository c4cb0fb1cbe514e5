"""Distributions of a value over images: a histogram, and the cumulative shares of two samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from segops.reports.charts.svg import ACCENT, SOFT, Tips, drawing

_SIZE_IN = (4.0, 1.8)


def histogram(name: str, values: npt.ArrayLike, *, low: float, high: float, bins: int = 20) -> Markup:
    """Draw how many values lie in each of `bins` parts from `low` to `high`; those outside count in the outer parts.

    Args:
        name: of the chart, which no other of the page has.
    """
    counts, edges = np.histogram(np.clip(np.asarray(values, np.float64), low, high), bins=bins, range=(low, high))

    def draw(panels: list[Axes]) -> Tips:
        (axes,) = panels
        filled = np.flatnonzero(counts)
        width = (high - low) / bins
        bars = axes.bar(edges[filled] + width / 2, counts[filled], width=0.86 * width, color=ACCENT)
        tips: dict[str, list[str]] = {}
        for part, bar in zip(filled, bars, strict=True):
            bar.set_gid(f"part {part}")
            tips[f"part {part}"] = [f"{counts[part]:,} from {edges[part]:g} to {edges[part + 1]:g}"]
        axes.set(xlim=(low, high), ylabel="images")
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        return tips

    return drawing(name, f"{name} by image", _SIZE_IN, draw)


def cumulative(name: str, reference: Sequence[float], values: Sequence[float]) -> Markup:
    """Draw the shares of a reference, grey, and of new values that lie at or below a value.

    Args:
        name: of the chart, which no other of the page has.
    """

    def draw(panels: list[Axes]) -> Tips:
        (axes,) = panels
        draw_cumulative(axes, reference, values)
        return {}

    return drawing(name, f"cumulative shares of {name}", _SIZE_IN, draw)


def draw_cumulative(axes: Axes, reference: Sequence[float], values: Sequence[float]) -> None:
    """Draw what `cumulative` shows."""
    for sample, colour in ((reference, SOFT), (values, ACCENT)):
        axes.ecdf(sample, color=colour, linewidth=2)
    axes.set(ylim=(-0.02, 1.02), yticks=(0, 0.5, 1), ylabel="share of images")
