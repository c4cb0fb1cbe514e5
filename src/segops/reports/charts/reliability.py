"""Reliability curves: how often a confidence is right. One way to draw them, for pages and for MLflow's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from segops.comparison.paired import HALVES, Half
from segops.comparison.verdict import SUBSETS
from segops.contracts.scores import ReliabilityBin
from segops.reports.charts.svg import SERIES, SOFT, Tips, drawing

_MARKERS = "osD^vP"


def reliability(bins: Mapping[str, Mapping[Half, Sequence[ReliabilityBin]]]) -> Markup:
    """Draw frequency over confidence, one line per candidate; validation on the left, test on the right.

    Args:
        bins: by candidate and subset; bins without a pixel are left out.
    """

    def draw(panels: list[Axes]) -> Tips:
        tips: dict[str, list[str]] = {}
        for axes, subset in zip(panels, HALVES, strict=True):
            draw_square(axes, SOFT)
            axes.set_title(SUBSETS[subset])
            for number, (name, by_subset) in enumerate(bins.items()):
                gid = f"{subset} {number}"
                marker = _MARKERS[number // len(SERIES) % len(_MARKERS)]
                tips[gid] = draw_bins(axes, by_subset[subset], name, SERIES[number % len(SERIES)], marker, gid)
        panels[1].set_ylabel("")
        if len(bins) > 1:
            panels[0].legend(loc="upper left")
        return tips

    return drawing("reliability", "How often confidence is right, by candidate", (9.0, 4.8), draw, panels=2)


def draw_square(axes: Axes, colour: str) -> None:
    """Prepare axes for reliability curves: both from 0 to 1, with a diagonal where confidence is right."""
    axes.axline((0, 0), slope=1, color=colour, linestyle="--", linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence", ylabel="frequency")


def draw_bins(
    axes: Axes, bins: Sequence[ReliabilityBin], name: str, colour: str, marker: str = "o", gid: str | None = None
) -> list[str]:
    """Draw a curve with one mark per bin that has pixels; return what each mark says."""
    filled = [part for part in bins if part.pixels and part.confidence is not None and part.frequency is not None]
    confidences = [float(part.confidence or 0) for part in filled]
    frequencies = [float(part.frequency or 0) for part in filled]
    axes.plot(confidences, frequencies, color=colour, linewidth=1.2, alpha=0.8)
    axes.scatter(confidences, frequencies, s=20, color=colour, marker=marker, gid=gid, label=name, clip_on=False)
    return [
        f"{name}: {part.pixels:,} pixels above {part.low:.2f}, confidence {part.confidence:.3f}, "
        f"frequency {part.frequency:.3f}"
        for part in filled
    ]
