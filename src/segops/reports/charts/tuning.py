"""Pictures of a search, as PNG."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from segops.contracts.trials import TrialRecord, complete, pareto_front
from segops.params.search_space import Space

_BLUE, _ORANGE, _SKY, _GREY, _INK = "#0072b2", "#e69f00", "#56b4e9", "#9aa4b2", "#1c2330"
_WIDTH_IN, _DPI = 9.0, 110
_MOST_IN_A_ROW = 3
Picture = tuple[str, str, bytes]  # name, caption, PNG


def pictures(space: Space, trials: Sequence[TrialRecord], importances: dict[str, float], taken: int) -> list[Picture]:
    """History, epochs, importances, slices, parallel coordinates and the Pareto front, as far as there are trials.

    Args:
        importances: share by path.
        taken: number of the trial whose values were taken.
    """
    scored = complete(trials)
    made: list[Picture] = []
    if scored:
        made.append(("history", "Validation Dice by trial, and the best so far.", _history(trials, taken)))
    if any(one.curve for one in trials):
        made.append(("epochs", "Validation Dice by epoch; grey lines were pruned.", _epochs(trials, taken)))
    if importances:
        caption = "How much of the differences in Dice each param explains (fANOVA over the complete trials)."
        made.append(("importances", caption, _importances(importances)))
    paths = [path for path in space if any(path in one.values for one in scored)]
    if len(scored) > 1 and paths:
        made.append(("slices", "Validation Dice by each param's value.", _slices(space, paths, scored, taken)))
        caption = "Each complete trial as a line through its values; bluer lines have a higher Dice."
        made.append(("parallel", caption, _parallel(space, paths, scored)))
    if any(one.milliseconds is not None for one in scored):
        caption = "Dice and milliseconds an image. No trial beats those on the line in both."
        made.append(("pareto", caption, _pareto(scored, taken)))
    return made


def _history(trials: Sequence[TrialRecord], taken: int) -> bytes:
    figure, axes = _figure(3.4)
    scored = complete(trials)
    so_far = np.maximum.accumulate([one.dice or 0 for one in scored])
    axes.plot([one.number for one in scored], so_far, color=_SKY, zorder=1, drawstyle="steps-post")
    _dots(axes, [(one.number, one.dice, one) for one in scored], taken)
    pruned = [one for one in trials if one.state == "pruned" and one.curve]
    axes.scatter([one.number for one in pruned], [one.curve[-1] for one in pruned], s=24, marker="x", color=_GREY)
    for one in trials:
        if one.state == "failed":
            axes.axvline(one.number, color=_ORANGE, linewidth=1, linestyle=":")
    axes.set(xlabel="trial (x: pruned, at its last epoch; dotted: failed)", ylabel="validation Dice")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _png(figure)


def _epochs(trials: Sequence[TrialRecord], taken: int) -> bytes:
    figure, axes = _figure(3.4)
    for one in trials:
        colour = _ORANGE if one.number == taken else _GREY if one.state == "pruned" else _BLUE
        axes.plot(range(1, len(one.curve) + 1), one.curve, color=colour, linewidth=1.2, alpha=0.8, marker=".")
    axes.set(xlabel="epoch", ylabel="validation Dice")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _png(figure)


def _importances(importances: dict[str, float]) -> bytes:
    figure, axes = _figure(0.9 + 0.35 * len(importances))
    ordered = sorted(importances.items(), key=lambda one: one[1])
    axes.barh([path for path, _ in ordered], [share for _, share in ordered], color=_BLUE, height=0.6)
    for at, (_, share) in enumerate(ordered):
        axes.text(share, at, f" {share:.2f}", va="center", color=_INK, fontsize=9)
    axes.set(xlim=(0, 1.08), xlabel="importance")
    return _png(figure)


def _slices(space: Space, paths: Sequence[str], scored: Sequence[TrialRecord], taken: int) -> bytes:
    columns = min(_MOST_IN_A_ROW, len(paths))
    rows = -(-len(paths) // columns)
    figure = Figure(figsize=(_WIDTH_IN, 2.7 * rows), dpi=_DPI, layout="constrained")
    for at, path in enumerate(paths):
        axes = figure.add_subplot(rows, columns, at + 1)
        _plain(axes)
        _dots(axes, [(_place(space, path, one), one.dice, one) for one in scored if path in one.values], taken)
        axes.set_xlabel(path, fontsize=9)
        axes.set_ylabel("validation Dice" if at % columns == 0 else "", fontsize=9)
        _scale(axes, space, path)
    return _png(figure)


def _parallel(space: Space, paths: Sequence[str], scored: Sequence[TrialRecord]) -> bytes:
    """Each axis runs from its smallest value tried to its largest; a param that a trial doesn't have is skipped."""
    figure, axes = _figure(3.6)
    dices = [one.dice or 0 for one in scored]
    shade = Normalize(min(dices) - 0.3 * (max(dices) - min(dices)) - 1e-6, max(dices))
    ends = {}
    for path in paths:
        places = [_place(space, path, one) for one in scored if path in one.values]
        if space[path].log:
            places = [float(np.log(place)) for place in places]
        ends[path] = min(places), max(places)
    for one in sorted(scored, key=lambda one: one.dice or 0):
        points = []
        for at, path in enumerate(paths):
            if path in one.values:
                place = _place(space, path, one)
                place = float(np.log(place)) if space[path].log else place
                low, high = ends[path]
                points.append((at, (place - low) / (high - low) if high > low else 0.5))
        points.append((len(paths), (one.dice or 0) - min(dices)))
        span = (max(dices) - min(dices)) or 1.0
        points[-1] = (len(paths), points[-1][1] / span)
        axes.plot(*zip(*points, strict=True), color=_BLUE, alpha=float(0.1 + 0.9 * shade(one.dice or 0)), linewidth=1.3)
    for at in range(len(paths) + 1):
        axes.axvline(at, color=_GREY, linewidth=0.8)
    labels = [f"{path}\n{_shown(space, path, ends[path])}" for path in paths]
    labels.append(f"Dice\n{min(dices):.3f} to {max(dices):.3f}")
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return _png(figure)


def _pareto(scored: Sequence[TrialRecord], taken: int) -> bytes:
    figure, axes = _figure(3.6)
    front = pareto_front(scored)
    axes.plot(
        [one.milliseconds or 0 for one in front], [one.dice or 0 for one in front], color=_SKY, drawstyle="steps-pre"
    )
    _dots(axes, [(one.milliseconds, one.dice, one) for one in scored], taken)
    axes.set(xlabel="milliseconds an image", ylabel="validation Dice")
    return _png(figure)


def _dots(axes: Axes, points: Sequence[tuple[Any, Any, TrialRecord]], taken: int) -> None:
    """Trials as dots: the defaults hollow, the one that was taken orange."""
    for across, up, one in points:
        colour = _ORANGE if one.number == taken else _BLUE
        face = "white" if one.slot == 0 else colour
        axes.scatter([across], [up], s=30, facecolor=face, edgecolor=colour, linewidth=1.4, zorder=2)


def _place(space: Space, path: str, one: TrialRecord) -> float:
    """A value's place on its axis: the number, or a choice's position."""
    value, choices = one.values[path], space[path].categorical
    return float(choices.index(value) if choices is not None else value)


def _scale(axes: Axes, space: Space, path: str) -> None:
    choices = space[path].categorical
    if choices is not None:
        axes.set_xticks(range(len(choices)), [_choice(one) for one in choices], fontsize=8)
        axes.set_xlim(-0.5, len(choices) - 0.5)
        return
    if space[path].log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = space[path].ends
    margin = (high / low) ** 0.04 if space[path].log else 0.04 * (high - low)
    axes.set_xlim(*((low / margin, high * margin) if space[path].log else (low - margin, high + margin)))


def _shown(space: Space, path: str, ends: tuple[float, float]) -> str:
    choices = space[path].categorical
    if choices is not None:
        return f"{_choice(choices[int(ends[0])])} to {_choice(choices[int(ends[1])])}"
    low, high = np.exp(ends) if space[path].log else ends
    return f"{low:.3g} to {high:.3g}"


def _choice(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _figure(height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#eceff2", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
