"""One style for every chart, and charts as PNG for places that show no HTML. Charts of pages are in `svg.py`."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from segops.reports.palette import LIGHT

_DPI = 110


def style(ink: str, soft: str, line: str) -> dict[Any, Any]:
    """Return matplotlib's settings for a chart of these colours: of text, of axes, and of the grid."""
    return {
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",  # matplotlib brings it, so that measures are the same everywhere
        "font.size": 10,
        "text.parse_math": False,
        "text.color": ink,
        "axes.edgecolor": soft,
        "axes.labelcolor": soft,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": line,
        "xtick.color": soft,
        "ytick.color": soft,
        "legend.frameon": False,
    }


def png(size_in: tuple[float, float], draw: Callable[[Figure], None]) -> bytes:
    """Draw a chart on white as PNG; equal input gives equal bytes.

    Args:
        size_in: width and height in inches.
        draw: adds axes to the figure and draws on them.
    """
    with mpl.rc_context(style(LIGHT["ink"], LIGHT["soft"], LIGHT["line"])):
        figure = Figure(figsize=size_in, dpi=_DPI, layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
