"""Charts of a search, as PNG."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from segops.contracts.trials import TrialRecord, complete, pareto_front
from segops.params.colours import BLUE, ORANGE, SKY
from segops.params.search_space import Space
from segops.reports.charts.style import png
from segops.reports.palette import GREY

_WIDTH_IN = 9.0
_MOST_IN_A_ROW = 3
Picture = tuple[str, str, bytes]  # name, caption, PNG


def pictures(space: Space, trials: Sequence[TrialRecord], importances: dict[str, float], taken: int) -> list[Picture]:
    """Draw all charts of a search, as far as there are trials for them.

    They are history, epochs, importances, slices, parallel coordinates and the Pareto front.

    Args:
        importances: share by path.
        taken: number of the trial whose values were taken.
    """
    scored = complete(trials)
    charts: list[Picture] = []
    if scored:
        drawn = _png(3.4, lambda axes: _history(axes, trials, taken))
        charts.append(("history", "Validation Dice by trial, and the best so far.", drawn))
    if any(trial.curve for trial in trials):
        drawn = _png(3.4, lambda axes: _epochs(axes, trials, taken))
        charts.append(("epochs", "Validation Dice by epoch; grey lines were pruned.", drawn))
    if importances:
        caption = "How much of the differences in Dice each param explains (fANOVA over the complete trials)."
        drawn = _png(0.9 + 0.35 * len(importances), lambda axes: _importances(axes, importances))
        charts.append(("importances", caption, drawn))
    paths = [path for path in space if any(path in trial.values for trial in scored)]
    if len(scored) > 1 and paths:
        size_in = (_WIDTH_IN, 2.7 * _rows(paths))
        drawn = png(size_in, lambda figure: _slices(figure, space, paths, scored, taken))
        charts.append(("slices", "Validation Dice by each param's value.", drawn))
        caption = "Each complete trial as a line through its values; bluer lines have a higher Dice."
        charts.append(("parallel", caption, _png(3.6, lambda axes: _parallel(axes, space, paths, scored))))
    if any(trial.milliseconds is not None for trial in scored):
        caption = "Dice and milliseconds per image. No trial beats those on the line in both."
        charts.append(("pareto", caption, _png(3.6, lambda axes: _pareto(axes, scored, taken))))
    return charts


def _history(axes: Axes, trials: Sequence[TrialRecord], taken: int) -> None:
    """Draw validation Dice by trial and the best so far; mark pruned and failed trials."""
    scored = complete(trials)
    so_far = np.maximum.accumulate([trial.dice or 0 for trial in scored])
    axes.plot([trial.number for trial in scored], so_far, color=SKY, zorder=1, drawstyle="steps-post")
    _dots(axes, [(trial.number, trial.dice, trial) for trial in scored], taken)
    pruned = [trial for trial in trials if trial.state == "pruned" and trial.curve]
    axes.scatter(
        [trial.number for trial in pruned], [trial.curve[-1] for trial in pruned], s=24, marker="x", color=GREY
    )
    for trial in trials:
        if trial.state == "failed":
            axes.axvline(trial.number, color=ORANGE, linewidth=1, linestyle=":")
    axes.set(xlabel="trial (x: pruned, at its last epoch; dotted: failed)", ylabel="validation Dice")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _epochs(axes: Axes, trials: Sequence[TrialRecord], taken: int) -> None:
    """Draw validation Dice by epoch, one line per trial."""
    for trial in trials:
        colour = ORANGE if trial.number == taken else GREY if trial.state == "pruned" else BLUE
        axes.plot(range(1, len(trial.curve) + 1), trial.curve, color=colour, linewidth=1.2, alpha=0.8, marker=".")
    axes.set(xlabel="epoch", ylabel="validation Dice")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _importances(axes: Axes, importances: dict[str, float]) -> None:
    """Draw each param's share of the differences in Dice as a bar."""
    ordered = sorted(importances.items(), key=lambda pair: pair[1])
    axes.barh([path for path, _ in ordered], [share for _, share in ordered], color=BLUE, height=0.6)
    for at, (_, share) in enumerate(ordered):
        axes.text(share, at, f" {share:.2f}", va="center", fontsize=9)
    axes.set(xlim=(0, 1.08), xlabel="importance")


def _slices(figure: Figure, space: Space, paths: Sequence[str], scored: Sequence[TrialRecord], taken: int) -> None:
    """Draw validation Dice by each param's value, one pair of axes per param."""
    columns = min(_MOST_IN_A_ROW, len(paths))
    for position, path in enumerate(paths):
        axes = figure.add_subplot(_rows(paths), columns, position + 1)
        _dots(
            axes, [(_place(space, path, trial), trial.dice, trial) for trial in scored if path in trial.values], taken
        )
        axes.set_xlabel(path, fontsize=9)
        axes.set_ylabel("validation Dice" if position % columns == 0 else "", fontsize=9)
        _scale(axes, space, path)


def _rows(paths: Sequence[str]) -> int:
    """Return how many rows of axes the params need."""
    return -(-len(paths) // _MOST_IN_A_ROW)


def _parallel(axes: Axes, space: Space, paths: Sequence[str], scored: Sequence[TrialRecord]) -> None:
    """Draw each trial as a line through its values.

    Each axis runs from its smallest value tried to its largest; a param that a trial doesn't have is skipped.
    """
    dices = [trial.dice or 0 for trial in scored]
    shade = Normalize(min(dices) - 0.3 * (max(dices) - min(dices)) - 1e-6, max(dices))
    ends = {}
    for path in paths:
        places = [_place(space, path, trial) for trial in scored if path in trial.values]
        if space[path].log:
            places = [float(np.log(place)) for place in places]
        ends[path] = min(places), max(places)
    for trial in sorted(scored, key=lambda trial: trial.dice or 0):
        points = []
        for at, path in enumerate(paths):
            if path in trial.values:
                place = _place(space, path, trial)
                place = float(np.log(place)) if space[path].log else place
                low, high = ends[path]
                points.append((at, (place - low) / (high - low) if high > low else 0.5))
        points.append((len(paths), (trial.dice or 0) - min(dices)))
        span = (max(dices) - min(dices)) or 1.0
        points[-1] = (len(paths), points[-1][1] / span)
        axes.plot(
            *zip(*points, strict=True), color=BLUE, alpha=float(0.1 + 0.9 * shade(trial.dice or 0)), linewidth=1.3
        )
    for at in range(len(paths) + 1):
        axes.axvline(at, color=GREY, linewidth=0.8)
    labels = [f"{path}\n{_shown(space, path, ends[path])}" for path in paths]
    labels.append(f"Dice\n{min(dices):.3f} to {max(dices):.3f}")
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _pareto(axes: Axes, scored: Sequence[TrialRecord], taken: int) -> None:
    """Draw Dice by milliseconds per image, with a line through the trials that none beats in both."""
    front = pareto_front(scored)
    axes.plot(
        [trial.milliseconds or 0 for trial in front],
        [trial.dice or 0 for trial in front],
        color=SKY,
        drawstyle="steps-pre",
    )
    _dots(axes, [(trial.milliseconds, trial.dice, trial) for trial in scored], taken)
    axes.set(xlabel="milliseconds an image", ylabel="validation Dice")


def _dots(axes: Axes, points: Sequence[tuple[Any, Any, TrialRecord]], taken: int) -> None:
    """Draw trials as dots: the defaults hollow, the trial that was taken orange."""
    for across, up, trial in points:
        colour = ORANGE if trial.number == taken else BLUE
        face = "white" if trial.slot == 0 else colour
        axes.scatter([across], [up], s=30, facecolor=face, edgecolor=colour, linewidth=1.4, zorder=2)


def _place(space: Space, path: str, trial: TrialRecord) -> float:
    """Return a value's place on its axis: the number, or a choice's position."""
    value, choices = trial.values[path], space[path].categorical
    return float(choices.index(value) if choices is not None else value)


def _scale(axes: Axes, space: Space, path: str) -> None:
    """Set the horizontal axis to a param's choices, or to its range, with log scale where the search has it."""
    choices = space[path].categorical
    if choices is not None:
        axes.set_xticks(range(len(choices)), [_choice(choice) for choice in choices], fontsize=8)
        axes.set_xlim(-0.5, len(choices) - 0.5)
        return
    low, high = space[path].ends
    if space[path].log:
        axes.set_xscale("log")
        if high < 100 * low:  # powers of ten alone would be a label or two
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # the default writes powers as mathematics
        axes.xaxis.set_minor_formatter(NullFormatter())
    margin = (high / low) ** 0.04 if space[path].log else 0.04 * (high - low)
    axes.set_xlim(*((low / margin, high * margin) if space[path].log else (low - margin, high + margin)))


def _shown(space: Space, path: str, ends: tuple[float, float]) -> str:
    """Write the range of the values tried of a param, by the ends of its axis."""
    choices = space[path].categorical
    if choices is not None:
        return f"{_choice(choices[int(ends[0])])} to {_choice(choices[int(ends[1])])}"
    low, high = np.exp(ends) if space[path].log else ends
    return f"{low:.3g} to {high:.3g}"


def _choice(value: Any) -> str:
    """Write a choice as it is, or as JSON where it isn't text."""
    return value if isinstance(value, str) else json.dumps(value)


def _png(height_in: float, draw: Callable[[Axes], None]) -> bytes:
    """Draw a chart that has a single pair of axes."""
    return png((_WIDTH_IN, height_in), lambda figure: draw(figure.add_subplot()))
