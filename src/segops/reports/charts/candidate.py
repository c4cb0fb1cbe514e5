"""A candidate's curves for its run in MLflow, drawn from the tables that train and evaluate wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segops.comparison.paired import HALVES
from segops.comparison.verdict import SUBSETS
from segops.contracts.scores import ReliabilityBin
from segops.params.colours import BLUE, ORANGE
from segops.reports.charts.reliability import draw_bins, draw_square
from segops.reports.charts.style import png
from segops.reports.palette import GREY

_WIDTH_IN, _HEIGHT_IN = 4.0, 2.6  # of all, and of each
_COLOURS = {"val": BLUE, "test": ORANGE}
_Draw = Callable[[Axes, pd.DataFrame], None]


def curves_chart(folder: Path) -> bytes | None:
    """Draw a candidate's curves in one picture: PR, ROC, threshold, reliability, as far as their tables have rows.

    Epochs are no part of it: MLflow draws them itself, all candidates in one chart.
    """
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in _DRAWN if (folder / f"{name}.csv").is_file()}
    drawn = [(_DRAWN[name], table) for name, table in tables.items() if len(table)]

    def draw_all(figure: Figure) -> None:
        for number, (draw, table) in enumerate(drawn, start=1):
            draw(figure.add_subplot(len(drawn), 1, number), table)

    return png((_WIDTH_IN, _HEIGHT_IN * len(drawn)), draw_all) if drawn else None


def draw_precision_recall(axes: Axes, table: pd.DataFrame) -> None:
    """Draw precision over recall."""
    axes.plot(table["recall"], table["precision"], color=ORANGE)
    _unit_square(axes, "recall (test pixels)", "precision")


def draw_roc(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the true over the false positive rate, and the diagonal of chance."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    axes.plot(table["false_positive_rate"], table["true_positive_rate"], color=ORANGE)
    _unit_square(axes, "false positive rate (test pixels)", "true positive rate")


def draw_threshold(axes: Axes, table: pd.DataFrame) -> None:
    """Draw validation Dice over the threshold."""
    axes.plot(table["threshold"], table["val_dice"], color=BLUE)
    _unit_square(axes, "threshold", "validation Dice")


def draw_reliability(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the reliability of validation and test; a bin without a pixel has no mark."""
    draw_square(axes, GREY)
    columns = list(ReliabilityBin.model_fields)
    for subset in HALVES:
        rows = table.loc[(table["subset"] == subset) & (table["pixels"] > 0), columns].to_dict("records")
        draw_bins(axes, [ReliabilityBin.model_validate(row) for row in rows], SUBSETS[subset], _COLOURS[subset])
    axes.legend(fontsize=8, loc="upper left")


def _unit_square(axes: Axes, x: str, y: str) -> None:
    """Label axes and make both run from 0 to 1."""
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


_DRAWN: dict[str, _Draw] = {
    "pr": draw_precision_recall,
    "roc": draw_roc,
    "threshold": draw_threshold,
    "reliability": draw_reliability,
}
