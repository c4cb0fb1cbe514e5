"""A candidate's charts for its run in MLflow, drawn from the files that train and evaluate wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segops.comparison.paired import HALVES
from segops.comparison.verdict import SUBSETS
from segops.contracts.evaluation import Evaluation
from segops.contracts.scores import ReliabilityBin
from segops.contracts.tables import HISTORY_FILE
from segops.params.colours import BLUE, ORANGE
from segops.reports.charts.confusion import confusion_chart
from segops.reports.charts.reliability import draw_bins, draw_square
from segops.reports.charts.style import png
from segops.reports.palette import GREY

_SIZE_IN = (5.6, 4.2)
_COLOURS = {"val": BLUE, "test": ORANGE}
_Draw = Callable[[Axes, pd.DataFrame], None]


def candidate_charts(model: Path, report: Path, evaluation: Evaluation) -> Iterator[tuple[str, str, bytes]]:
    """Draw the confusion of each subset, and each curve; yield family (`confusion`, `curves`), name and PNG.

    Curves are history, pr, roc, threshold and reliability, as far as their tables are there and have rows.

    Args:
        model: folder with history.csv.
        report: folder with curves/.
    """
    for subset in HALVES:
        matrix, title = evaluation.subsets[subset].confusion, f"{evaluation.candidate}, {subset}"
        yield "confusion", subset, confusion_chart(matrix, evaluation.classes, title)
    for path, draw in {
        model / HISTORY_FILE: draw_history,
        report / "curves" / "pr.csv": draw_precision_recall,
        report / "curves" / "roc.csv": draw_roc,
        report / "curves" / "threshold.csv": draw_threshold,
        report / "curves" / "reliability.csv": draw_reliability,
    }.items():
        table = pd.read_csv(path) if path.is_file() else pd.DataFrame()
        if len(table):
            yield "curves", path.stem, png(_SIZE_IN, partial(_draw, evaluation.candidate, table, draw))


def _draw(title: str, table: pd.DataFrame, draw: _Draw, figure: Figure) -> None:
    """Draw a table on the figure's one pair of axes, under a title."""
    axes = figure.add_subplot()
    draw(axes, table)
    axes.set_title(title)


def draw_history(axes: Axes, table: pd.DataFrame) -> None:
    """Draw losses on the left scale, validation Dice on the right one."""
    axes.plot(table["epoch"], table["train_loss"], color=GREY, label="training loss")
    axes.plot(table["epoch"], table["val_loss"], color=BLUE, label="validation loss")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    right.grid(visible=False)
    right.plot(table["epoch"], table["val_dice"], color=ORANGE, label="validation Dice")
    right.set(ylabel="validation Dice", ylim=(0, 1.02))
    lines = [*axes.get_lines(), *right.get_lines()]
    labels = [str(line.get_label()) for line in lines]
    right.figure.legend(lines, labels, loc="outside lower center", ncols=3, fontsize=8)


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
