"""What the project's HTML pages share: one style, one Jinja environment, numbers, a small histogram.

A page is one self-contained file that reads offline. A template extends the frame:

    {% extends "page.html.j2" %}{% block title %}...{% endblock %}{% block body %}...{% endblock %}
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from segops.contracts.scores import Interval, ReliabilityBin
from segops.pictures.images import Array
from segops.reports.template_files import TEMPLATES

if TYPE_CHECKING:
    from markupsafe import Markup


def render(template: str, **context: Any) -> str:
    """Fill a template of `templates/`; every value is escaped unless it is Markup, a name that isn't given is an error.

    Filters: `score`, `interval`, `signed(decimals)` and `decimals(decimals)` below, and `pixels` (two decimals).
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": score, "interval": interval, "pixels": lambda px: number(px, 2)}
    environment.filters |= {"decimals": number, "signed": signed}
    return environment.get_template(template).render(**context) + "\n"


def number(value: float | None, decimals: int) -> str:
    """A number with that many decimals; a dash for none."""
    return "\N{EN DASH}" if value is None or math.isnan(value) else f"{value:.{decimals}f}"


def signed(value: float | None, decimals: int) -> str:
    """A number with its sign and that many decimals; a dash for none."""
    return number(value, decimals) if value is None else f"{value:+.{decimals}f}"


def score(value: float | None) -> str:
    """A number between 0 and 1 with three decimals; a dash for none."""
    return number(value, 3)


def interval(value: Interval | None) -> str:
    """A mean and its interval, as `Interval.words`; a dash for none."""
    return number(None, 3) if value is None else value.words()


def svg_histogram(
    values: Sequence[float] | Array, *, low: float, high: float, bins: int = 20, label: str = "", height_px: int = 90
) -> Markup:
    """An inline SVG histogram of `values` between `low` and `high`; values outside count in the outer bins."""
    from markupsafe import Markup, escape

    tally, _ = np.histogram(np.clip(np.asarray(values, np.float64), low, high), bins=bins, range=(low, high))
    bar_px, top = 14, max(int(tally.max(initial=0)), 1)
    width_px = bins * bar_px
    bars = "".join(
        f'<rect class="bar" x="{i * bar_px + 1}" y="{height_px - h}" width="{bar_px - 2}" height="{h}">'
        f"<title>{count}</title></rect>"
        for i, count in enumerate(tally)
        if (h := round(int(count) / top * height_px, 1))
    )
    marks = (
        f'<line class="axis" x1="0" y1="{height_px}" x2="{width_px}" y2="{height_px}"/>'
        f'<text x="0" y="{height_px + 14}">{low:g}</text>'
        f'<text x="{width_px / 2}" y="{height_px + 14}" text-anchor="middle">{escape(label)}</text>'
        f'<text x="{width_px}" y="{height_px + 14}" text-anchor="end">{high:g}</text>'
    )
    return Markup(  # noqa: S704 - numbers and an escaped label
        f'<svg viewBox="0 0 {width_px} {height_px + 18}" width="{width_px}" height="{height_px + 18}" role="img" '
        f'aria-label="{escape(label)}">{bars}{marks}</svg>'
    )


def svg_reliability(bins: Sequence[ReliabilityBin], side_px: int = 240) -> Markup:
    """A reliability curve as inline SVG: frequency over confidence, a dot's area growing with the bin's pixels."""
    from markupsafe import Markup

    shown = [one for one in bins if one.confidence is not None and one.frequency is not None]
    most = max((math.log1p(one.pixels) for one in shown), default=1.0)
    points = [(one.confidence * side_px, (1 - one.frequency) * side_px, one) for one in shown]  # type: ignore[operator]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{1.5 + 4 * math.log1p(one.pixels) / most:.1f}" class="bar">'
        f"<title>{one.pixels:,} pixels above {one.low:.2f}: confidence {one.confidence:.3f}, "
        f"frequency {one.frequency:.3f}</title></circle>"
        for x, y, one in points
    )
    marks = "".join(
        f'<text x="{share * side_px}" y="{side_px + 16}" text-anchor="middle">{share:g}</text>'
        f'<text x="-8" y="{(1 - share) * side_px + 4}" text-anchor="end">{share:g}</text>'
        for share in (0, 0.5, 1)
    )
    return Markup(  # noqa: S704 - numbers alone
        f'<svg viewBox="-34 -8 {side_px + 50} {side_px + 44}" width="{side_px + 50}" height="{side_px + 44}" '
        f'role="img" aria-label="reliability curve">'
        f'<rect width="{side_px}" height="{side_px}" fill="none" class="axis"/>'
        f'<line class="axis" x1="0" y1="{side_px}" x2="{side_px}" y2="0"/>{marks}'
        f'<polyline points="{line}" fill="none" stroke="var(--accent)" stroke-width="1.5"/>{dots}'
        f'<text x="{side_px / 2}" y="{side_px + 32}" text-anchor="middle">confidence</text></svg>'
    )
