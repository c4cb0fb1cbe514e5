"""A confusion matrix as PNG, for places that show no HTML."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from segops.params.colours import BLUE, ORANGE
from segops.reports.charts.style import png
from segops.reports.palette import LIGHT

_CELL_IN, _FRAME_IN = (1.3, 0.6), (1.7, 1.0)
_LONGEST = 18  # letters of a class's name
_DARK = 0.5  # brightness of a cell below which its words are white


def confusion_chart(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> bytes:
    """Draw a confusion matrix: one row per class of the truth and one column per predicted class.

    Each cell has its share of the row and its pixels. Right pixels are shaded blue, wrong ones orange, by their share.
    """
    sides, names = len(classes), [_short(name) for name in classes]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set(xlim=(0, sides), ylim=(sides, 0))
        axes.set_xticks([side + 0.5 for side in range(sides)], names)
        axes.set_yticks([side + 0.5 for side in range(sides)], names)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        axes.grid(visible=False)
        words = f"{title}\ntruth (rows) and prediction (columns), pixels"
        figure.suptitle(words, x=0.01, ha="left", fontsize=10)
        for row, counted in enumerate(matrix):
            for column, pixels in enumerate(counted):
                colour = shade(row == column, pixels / max(sum(counted), 1))
                axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor=LIGHT["line"]))
                part = f"{pixels / sum(counted):.1%}" if sum(counted) else "\N{EN DASH}"
                ink = LIGHT["ink"] if sum(colour) / 3 > _DARK else LIGHT["page"]
                axes.text(column + 0.5, row + 0.4, part, color=ink, ha="center", va="center", fontsize=11)
                axes.text(column + 0.5, row + 0.75, f"{pixels:,}", color=ink, ha="center", va="center", fontsize=8)

    width, height = (cell * sides + frame for cell, frame in zip(_CELL_IN, _FRAME_IN, strict=True))
    return png((max(width, 5.2), height), draw)


def shade(right: bool, share: float) -> tuple[float, float, float]:
    """Mix white with blue for right pixels, or with orange for wrong ones, by their share: RGB in [0, 1]."""
    red, green, blue = (1 + (part - 1) * share for part in to_rgb(BLUE if right else ORANGE))
    return red, green, blue


def _short(name: str) -> str:
    """Cut a name to _LONGEST characters, with an ellipsis at its end."""
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
