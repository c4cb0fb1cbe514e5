"""How candidates learned: validation Dice and losses by epoch, a line per candidate."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from segops.reports.charts.svg import SERIES, Tips, drawing

_MARKERS = "osD^vP"


def learning_curves(histories: Mapping[str, pd.DataFrame]) -> Markup:
    """Draw validation Dice on the left; on the right validation loss, and training loss as a dotted line.

    Args:
        histories: tables with the columns of history.csv, by candidate.
    """

    def draw(panels: list[Axes]) -> Tips:
        dice, loss = panels
        tips: dict[str, list[str]] = {}
        for number, (name, table) in enumerate(histories.items()):
            colour, epochs, gid = SERIES[number % len(SERIES)], table["epoch"], f"epochs {number}"
            marker = _MARKERS[number // len(SERIES) % len(_MARKERS)]
            dice.plot(epochs, table["val_dice"], color=colour, linewidth=1.2)
            dice.scatter(epochs, table["val_dice"], s=16, color=colour, marker=marker, gid=gid, label=name)
            tips[gid] = [
                f"{name}, epoch {epoch}: validation Dice {value:.3f}"
                for epoch, value in zip(epochs, table["val_dice"], strict=True)
            ]
            loss.plot(epochs, table["val_loss"], color=colour, linewidth=1.4)
            loss.plot(epochs, table["train_loss"], color=colour, linewidth=1.4, linestyle=":")
        for axes, label in ((dice, "validation Dice"), (loss, "loss (dotted: training)")):
            axes.set(xlabel="epoch", ylabel=label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        dice.set_ylim(-0.02, 1.02)
        dice.legend(loc="lower right")
        return tips

    return drawing("learning", "Validation Dice and losses by epoch, by candidate", (10.0, 3.6), draw, panels=2)
