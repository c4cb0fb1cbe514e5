"""reports/comparison/index.html: the leaderboard, the leader's paired differences, subgroups, and every image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from segops.model_contracts import Comparison
from segops.scores import Interval

if TYPE_CHECKING:
    from markupsafe import Markup

    from segops.stages.compare import Entrant

_BAR_PX, _ROW_PX, _SCATTER_PX, _MARGIN_PX = 260, 26, 300, 40
_DOTS = {"val": "dot", "test": "hollow"}


def comparison_page(comparison: Comparison, entrants: list[Entrant], galleries: dict[str, str]) -> str:
    """The page as HTML.

    Args:
        galleries: links to galleries by candidate; empty where they don't stand beside the page.
    """
    from segops.evaluation.pages import render
    from segops.stages.compare import verdict

    dices = [one for standing in comparison.standings for one in (standing.val_dice, standing.test_dice)]
    axis = _axis(min(one.low for one in dices), max(one.high for one in dices))
    reach = max(
        [1e-3, *(abs(edge) for one in comparison.differences for edge in (one.difference.low, one.difference.high))]
    )
    by_name = {one.name: one for one in entrants}
    leader = by_name[comparison.standings[0].candidate]
    others = [by_name[standing.candidate] for standing in comparison.standings[1:]]
    return render(
        _PAGE,
        comparison=comparison,
        level=f"{comparison.confidence:.0%}",
        links=galleries,
        axis=axis,
        bar=lambda interval: interval_bar(interval, *axis),
        difference_bar=lambda interval: interval_bar(interval, -reach, reach, zero=True),
        verdict=verdict,
        modalities=_modalities(entrants),
        classes=leader.evaluation.shown_classes,
        by_name=by_name,
        scatters=[(leader.name, other.name, scatter(leader, other)) for other in others],
    )


def interval_bar(interval: Interval, low: float, high: float, *, zero: bool = False) -> Markup:
    """An interval as a line with a dot at its mean, on an axis from `low` to `high`."""
    from markupsafe import Markup

    def x(value: float) -> float:
        return round(6 + (value - low) / (high - low) * (_BAR_PX - 12), 1)

    middle = _ROW_PX // 2
    origin = f'<line class="axis" x1="{x(0)}" x2="{x(0)}" y1="2" y2="{_ROW_PX - 2}"/>' if zero else ""
    text = f"{interval.mean:.4f} ({interval.low:.4f} to {interval.high:.4f})"
    return Markup(  # noqa: S704 - numbers
        f'<svg viewBox="0 0 {_BAR_PX} {_ROW_PX}" width="{_BAR_PX}" height="{_ROW_PX}" role="img" aria-label="{text}">'
        f"<title>{text}</title>"
        f'<line class="axis" x1="0" x2="{_BAR_PX}" y1="{middle}" y2="{middle}"/>{origin}'
        f'<rect class="bar" x="{x(interval.low)}" y="{middle - 2}" height="4" rx="2" '
        f'width="{max(1.0, round(x(interval.high) - x(interval.low), 1))}"/>'
        f'<circle class="bar" cx="{x(interval.mean)}" cy="{middle}" r="5"/></svg>'
    )


def scatter(leader: Entrant, other: Entrant) -> Markup:
    """Dice of every validation and test image, the leader's upwards against another's to the right."""
    from markupsafe import Markup, escape

    from segops.stages.gate import paired_rows

    size, pad = _SCATTER_PX, _MARGIN_PX
    names = (leader.name, other.name)
    tables = {one: paired_rows(leader.per_image, other.per_image, one, names) for one in ("val", "test")}
    low = math.floor(10 * min(float(table[["dice_a", "dice_b"]].min().min()) for table in tables.values())) / 10
    low = min(low, 0.9)

    def place(value: float) -> float:
        return round((value - low) / (1 - low) * size, 1)

    dots = [
        f'<circle class="{_DOTS[subset]}" cx="{pad + place(right):g}" cy="{6 + size - place(up):g}" r="3.5">'
        f"<title>{escape(f'{image_id} ({subset}): {names[0]} {up:.3f}, {names[1]} {right:.3f}')}</title></circle>"
        for subset, table in tables.items()
        for image_id, up, right in zip(table["image_id"], table["dice_a"], table["dice_b"], strict=True)
    ]
    ticks = "".join(
        f'<text x="{pad + place(value):g}" y="{size + 22}" text-anchor="middle">{value:g}</text>'
        f'<text x="{pad - 6}" y="{10 + size - place(value):g}" text-anchor="end">{value:g}</text>'
        for value in (low, (1 + low) / 2, 1.0)
    )
    side = size + pad + 14
    return Markup(  # noqa: S704 - numbers and escaped names
        f'<svg viewBox="0 0 {side} {side}" width="{side}" height="{side}" role="img" '
        f'aria-label="Dice by image: {escape(names[0])} against {escape(names[1])}">'
        f'<rect class="frame" x="{pad}" y="6" width="{size}" height="{size}"/>'
        f'<line class="diagonal" x1="{pad}" y1="{size + 6}" x2="{pad + size}" y2="6"/>{ticks}{"".join(dots)}'
        f'<text x="{pad + size / 2}" y="{size + 40}" text-anchor="middle">{escape(names[1])}</text>'
        f'<text x="{pad + 8}" y="22">↑ {escape(names[0])}</text></svg>'
    )


def _modalities(entrants: Sequence[Entrant]) -> list[str]:
    return sorted(
        {name for one in entrants for name in (*one.evaluation.val.by_modality, *one.evaluation.test.by_modality)}
    )


def _axis(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis, in hundredths, a little beyond the values."""
    return math.floor(100 * low - 1) / 100, math.ceil(100 * high + 1) / 100


_PAGE = """{% extends "page.html" %}
{% block title %}Comparison of {{ comparison.standings|length }} candidates{% endblock %}
{% block body %}
<style>svg .frame { fill: none; stroke: var(--line); }
svg .diagonal { stroke: var(--soft); stroke-dasharray: 4 4; } svg .dot { fill: var(--accent); fill-opacity: 0.65; }
svg .hollow { fill: none; stroke: var(--warn); stroke-width: 1.4; }
.grid { display: flex; flex-wrap: wrap; gap: 24px; }</style>
<h1>Which candidate leads</h1>
<p class="soft">Ranked by mean Dice on validation{% if classes %}, the mean over
{{ classes|join(", ") }}{% endif %}. The test set is shown beside and chooses nothing.
Intervals are {{ level }} bootstrap intervals over groups. Protocol <code>{{ comparison.protocol }}</code>,
test set <code>{{ comparison.test_sha256[:12] }}</code>. All bars below run from {{ "%.2f"|format(axis[0]) }} to
{{ "%.2f"|format(axis[1]) }}.</p>
<div class="scroll"><table>
<tr><th>rank</th><th>candidate</th><th>validation Dice</th><th>test Dice</th>
<th class="number">val IoU</th><th class="number">test IoU</th><th class="number">parameters</th><th>version</th></tr>
{% for one in comparison.standings %}
<tr><td>{{ one.rank }}</td>
<td>{% if one.candidate in links %}<a href="{{ links[one.candidate] }}">{{ one.candidate }}</a>
{%- else %}{{ one.candidate }}{% endif %}
{% if one.candidate == comparison.challenger %}<br><small class="good">challenger</small>{% endif %}</td>
<td>{{ one.val_dice|interval }}<br>{{ bar(one.val_dice) }}</td>
<td>{{ one.test_dice|interval }}<br>{{ bar(one.test_dice) }}</td>
<td class="number">{{ one.val_iou|score }}</td><td class="number">{{ one.test_iou|score }}</td>
<td class="number">{{ "{:,}".format(one.parameters) }}</td>
<td>{% if one.registered %}{{ one.version }}{% else %}<span class="bad">not registered</span><br>
<small>{{ one.reason }}</small>{% endif %}</td></tr>
{% endfor %}
</table></div>
{% if comparison.differences %}
<h2>Is the lead real</h2>
<p class="soft">Dice of the leader minus Dice of the other on the same images. The lead is real when the interval
excludes 0.</p>
<div class="scroll"><table>
<tr><th>leader</th><th>other</th><th>subset</th><th>difference</th><th></th><th>verdict</th></tr>
{% for one in comparison.differences %}
<tr><td>{{ one.leader }}</td><td>{{ one.other }}</td><td>{{ "validation" if one.subset == "val" else "test" }}</td>
<td>{{ "%+.4f"|format(one.difference.mean) }} ({{ "%+.4f"|format(one.difference.low) }} to
{{ "%+.4f"|format(one.difference.high) }})</td>
<td>{{ difference_bar(one.difference) }}</td>
<td class="{{ "good" if one.difference.low > 0 else "bad" if one.real else "warn" }}">{{ verdict(one) }}</td>
</tr>
{% endfor %}
</table></div>
{% endif %}
{% if classes %}
<h2>Dice by class</h2>
<div class="scroll"><table>
<tr><th>candidate</th><th>subset</th>{% for name in classes %}<th>{{ name }}</th>{% endfor %}</tr>
{% for one in comparison.standings %}{% for subset in ("val", "test") %}
<tr><td>{{ one.candidate }}</td><td>{{ "validation" if subset == "val" else "test" }}</td>
{% set scores = by_name[one.candidate].evaluation[subset].by_class %}
{% for name in classes %}<td>{{ scores[name].dice|interval }}</td>{% endfor %}
</tr>
{% endfor %}{% endfor %}
</table></div>
{% endif %}
<h2>By modality</h2>
<div class="scroll"><table>
<tr><th>candidate</th><th>subset</th>{% for name in modalities %}<th>{{ name }}</th>{% endfor %}</tr>
{% for one in comparison.standings %}{% for subset in ("val", "test") %}
<tr><td>{{ one.candidate }}</td><td>{{ "validation" if subset == "val" else "test" }}</td>
{% set scores = by_name[one.candidate].evaluation[subset].by_modality %}
{% for name in modalities %}<td>{% if name in scores %}{{ scores[name]|interval }}{% endif %}</td>{% endfor %}
</tr>
{% endfor %}{% endfor %}
</table></div>
{% if scatters %}
<h2>Image by image</h2>
<p class="soft">Each dot is an image's Dice: <span class="good">above the diagonal</span> the leader is better there.
Filled: validation; hollow: test. Point at a dot for its name.</p>
<div class="grid">
{% for leader, other, picture in scatters %}<figure>{{ picture }}
<figcaption>{{ leader }} against {{ other }}</figcaption></figure>{% endfor %}
</div>
{% endif %}
{% endblock %}
"""
