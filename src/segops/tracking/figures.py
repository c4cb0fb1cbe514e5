"""A candidate's curves as figures, drawn from the tables that train and evaluate wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segops.contracts.tables import HISTORY_FILE

_BLUE, _ORANGE, _GREY = "#0072b2", "#e69f00", "#9aa4b2"  # Okabe and Ito's
_SIZE_IN, _DPI = (5.6, 4.2), 110
_SUBSETS = {"val": ("validation", _BLUE), "test": ("test", _ORANGE)}
_Draw = Callable[[Axes, pd.DataFrame], None]


def figures(model: Path, report: Path, title: str) -> Iterator[tuple[str, Figure]]:
    """Name and figure: history, pr, roc, threshold and reliability, as far as their tables are there and have rows.

    Args:
        model: folder with history.csv.
        report: folder with curves/.
        title: stands above each.
    """
    for path, draw in {
        model / HISTORY_FILE: _history,
        report / "curves" / "pr.csv": _precision_recall,
        report / "curves" / "roc.csv": _roc,
        report / "curves" / "threshold.csv": _threshold,
        report / "curves" / "reliability.csv": _reliability,
    }.items():
        table = pd.read_csv(path) if path.is_file() else pd.DataFrame()
        if len(table):
            yield path.stem, _figure(title, table, draw)


def _figure(title: str, table: pd.DataFrame, draw: _Draw) -> Figure:
    figure = Figure(figsize=_SIZE_IN, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    draw(axes, table)
    axes.set_title(title, fontsize=10)
    return figure


def _history(axes: Axes, table: pd.DataFrame) -> None:
    """Losses on the left scale, validation Dice on the right one."""
    axes.plot(table["epoch"], table["train_loss"], color=_GREY, label="training loss")
    axes.plot(table["epoch"], table["val_loss"], color=_BLUE, label="validation loss")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    right = axes.twinx()
    right.spines["top"].set_visible(False)
    right.plot(table["epoch"], table["val_dice"], color=_ORANGE, label="validation Dice")
    right.set(ylabel="validation Dice", ylim=(0, 1.02))
    lines = [*axes.get_lines(), *right.get_lines()]
    labels = [str(line.get_label()) for line in lines]
    right.figure.legend(lines, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)


def _precision_recall(axes: Axes, table: pd.DataFrame) -> None:
    axes.plot(table["recall"], table["precision"], color=_ORANGE)
    _unit_square(axes, "recall (test pixels)", "precision")


def _roc(axes: Axes, table: pd.DataFrame) -> None:
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=":")
    axes.plot(table["false_positive_rate"], table["true_positive_rate"], color=_ORANGE)
    _unit_square(axes, "false positive rate (test pixels)", "true positive rate")


def _threshold(axes: Axes, table: pd.DataFrame) -> None:
    axes.plot(table["threshold"], table["val_dice"], color=_BLUE)
    _unit_square(axes, "threshold", "validation Dice")


def _reliability(axes: Axes, table: pd.DataFrame) -> None:
    """Bins without a pixel leave no dot."""
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=":")
    for subset, (name, colour) in _SUBSETS.items():
        rows = table[(table["subset"] == subset) & (table["pixels"] > 0)]
        axes.plot(rows["confidence"], rows["frequency"], color=colour, marker="o", markersize=3.5, label=name)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _unit_square(axes, "confidence", "frequency")


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
