"""What a dataset holds, as charts: sizes, intensities, foreground, objects, classes, groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from segops.contracts.dataset import Dataset
from segops.progress import counted
from segops.reports.charts.distributions import histogram
from segops.reports.charts.svg import ACCENT, Tips, drawing

if TYPE_CHECKING:
    import pandas as pd

_BARS = 8  # that a chart shows; the others are one bar
_WIDTH_IN, _BAR_IN, _FRAME_IN = 4.0, 0.24, 0.5


def dataset_charts(dataset: Dataset, manifest: pd.DataFrame) -> list[tuple[str, Markup]]:
    """Draw how the images' values are distributed, by title; a chart that would say nothing isn't there."""
    own_units = manifest["intensity_mean"].max() > 1 or manifest["intensity_mean"].min() < 0
    charts = [
        ("Sizes (height x width, px)", bars("Sizes", _most_first(dataset.sizes), "image")),
        ("Mean intensity", _spread("Mean intensity", manifest["intensity_mean"], full=not own_units)),
        ("Intensity deviation", _spread("Intensity deviation", manifest["intensity_std"], full=False)),
        ("Foreground fraction", _spread("Foreground fraction", manifest["foreground_fraction"], full=True)),
    ]
    objects = manifest.loc[manifest["instances"] >= 0, "instances"]
    if len(objects):
        charts.append((f"Objects by image ({objects.sum():,} in all)", _spread("Objects", objects, full=False)))
    charts.append(("Images that show a class", bars("Classes", _images_of(dataset, manifest), "image")))
    groups = manifest.groupby("group_id").size()
    charts.append((f"Images of a group ({counted(len(groups), 'group')})", _by_count(groups)))
    return charts


def bars(name: str, counts: Mapping[str, int], noun: str) -> Markup:
    """Draw a horizontal bar for each name, in their order; beyond the first few the others are one bar.

    Args:
        name: of the chart, which no other of the page has.
        noun: what is counted, in the singular.
    """
    ordered = list(counts.items())
    shown = ordered if len(ordered) <= _BARS else ordered[: _BARS - 1]
    rest = ordered[len(shown) :]
    if rest:
        shown = [*shown, (f"{len(rest)} others", sum(count for _, count in rest))]

    def draw(panels: list[Axes]) -> Tips:
        (axes,) = panels
        tips: dict[str, list[str]] = {}
        drawn = axes.barh(range(len(shown)), [count for _, count in shown], height=0.7, color=ACCENT)
        for row, bar in enumerate(drawn):
            bar.set_gid(f"bar {row}")
            tips[f"bar {row}"] = [f"{shown[row][0]}: {counted(shown[row][1], noun)}"]
        axes.set_yticks(range(len(shown)), [title if len(title) <= 18 else f"{title[:17]}…" for title, _ in shown])
        axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel=f"{noun}s")
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        return tips

    return drawing(name, f"{name} by number of {noun}s", (_WIDTH_IN, _FRAME_IN + _BAR_IN * max(5, len(shown))), draw)


def _spread(name: str, values: pd.Series, *, full: bool) -> Markup:
    """Draw a histogram from 0 to 1 where that is the scale, else of the range that is there."""
    low, high = (0.0, 1.0) if full else (min(0.0, float(values.min())), float(values.max()))
    return histogram(name, values.to_numpy(), low=low, high=high if high > low else low + 1)


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    """Order counts from the largest to the smallest."""
    return dict(sorted(counts.items(), key=lambda pair: -pair[1]))


def _images_of(dataset: Dataset, manifest: pd.DataFrame) -> dict[str, int]:
    """Count the images that show each class, by its name and share of all pixels."""
    shown = manifest["classes"].str.split()
    return {
        f"{name} ({dataset.class_share[name]:.1%})": int(sum(str(index) in indices for indices in shown))
        for index, name in enumerate(dataset.classes)
    }


def _by_count(groups: pd.Series) -> Markup:
    """Draw how many groups have how many images."""
    counts = groups.value_counts().sort_index()
    sizes = [counted(size, "image") for size in counts.index.tolist()]
    return bars("Groups", dict(zip(sizes, counts.tolist(), strict=True)), "group")
