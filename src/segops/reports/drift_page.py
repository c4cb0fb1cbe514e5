"""drift's page: which features moved, how far, and the most unusual new images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segops.contracts.usage import Drift, Reference

PAGE = "index.html"
_WIDTH_PX, _HEIGHT_PX = 260, 110

_TEMPLATE = """{% extends "page.html" %}
{% block title %}Drift of new images from {{ drift.candidate }}'s{% endblock %}
{% block body %}
<h1>New images against those of {{ shown }}</h1>
{% if drift.drifted %}
<p class="bad"><strong>Drift.</strong> {{ drift.drifted | join(", ") }}: these images are unlike those that the model
was made for. Look at its masks before you use them.</p>
{% else %}
<p class="good"><strong>No drift.</strong> No feature moved by a distance of {{ drift.distance }} or more that chance
doesn't explain.</p>
{% endif %}
{% if drift.not_judged %}
<p class="warn">{{ drift.not_judged }}.</p>
{% endif %}
<div class="cards">
{% for value, what in cards %}
<div class="card"><div class="value">{{ value }}</div><div class="soft">{{ what }}</div></div>
{% endfor %}
</div>
<h2>Features</h2>
<p class="soft">Intensity and colour against training images; foreground and confidence against predictions on
validation images. Distance: the widest gap between the two cumulative shares (Kolmogorov-Smirnov), from
{{ drift.distance }} on it counts; p: that chance makes it, corrected for {{ judged }} features, up to
{{ drift.alpha }} it counts; a reference counts as many observations as it has groups.
Shift: how far values moved on average, in deviations of the reference. Images of one slide
or field are alike, and p takes them for independent.</p>
<div class="scroll"><table>
<thead><tr><th>Feature</th><th class="number">Reference, median</th><th class="number">New, median</th>
<th class="number">Distance</th><th class="number">p</th><th class="number">Shift</th><th>Result</th></tr></thead>
<tbody>
{% for one in drift.features %}
<tr><td>{{ one.name }}</td><td class="number">{{ one.reference_median | score }}</td>
<td class="number">{{ one.median | score }}</td><td class="number">{{ one.distance | score }}</td>
<td class="number">{{ "&ndash;"|safe if one.p is none else "%.1g" | format(one.p) }}</td>
<td class="number">{{ one.shift | pixels }}</td>
<td>{% if one.drifted %}<strong class="bad">drifts</strong>{% elif one.reason %}
<span class="warn">not judged</span>{% else %}<span class="soft">as before</span>{% endif %}</td>
</tr>
{% endfor %}
</tbody></table></div>
<h2>Distributions</h2>
<p class="soft"><span class="key" style="background: var(--soft); margin-left: 0"></span>reference
<span class="key" style="background: var(--accent)"></span>new images; share of images up to a value</p>
<div class="cards" style="grid-template-columns: repeat(auto-fit, minmax(300px, 1fr))">
{% for name, drifts, curves in plots %}
<div class="card"><div class="{{ "bad" if drifts else "soft" }}">{{ name }}</div>{{ curves }}</div>
{% endfor %}
</div>
{% if pictures %}
<h2>The most unusual images</h2>
<p class="soft">With the model's masks; named are the features outside what 99 % of the reference's images have.</p>
<div class="thumbnails">
{% for one, uri in pictures %}
<figure><img src="{{ uri }}" alt="{{ one.image }}" height="160">
<figcaption>{{ one.image }}<br>{{ one.features | join(", ") }}</figcaption></figure>
{% endfor %}
</div>
{% endif %}
<p class="soft"><small>Weights {{ drift.weights_sha256[:16] }}</small></p>
{% endblock %}
"""


def drift_page(
    drift: Drift,
    reference: Reference,
    shown: str,
    rows: Sequence[Mapping[str, float]],
    pictures: Mapping[str, str],
) -> str:
    """The page as HTML.

    Args:
        shown: the model's name for people.
        rows: features of the new images.
        pictures: data URIs of the unusual images, by name.
    """
    from segops.reports.pages import render

    points_of = {**reference.of_images, **reference.of_predictions}
    return render(
        _TEMPLATE,
        drift=drift,
        shown=shown,
        judged=sum(one.reason is None for one in drift.features),
        cards=[
            (f"{len(drift.drifted)} of {len(drift.features)}", "features drift"),
            (f"{drift.images:,}", "new images"),
            (f"{drift.training_images:,}", "training images"),
            (f"{drift.validation_images:,} in {drift.validation_groups:,}", "validation images, groups"),
        ],
        plots=[
            (one.name, one.drifted, cumulative(points_of[one.name], [row[one.name] for row in rows]))
            for one in drift.features
        ],
        pictures=[(one, pictures[one.image]) for one in drift.unusual],
    )


def cumulative(reference: Sequence[float], values: Sequence[float]) -> Any:
    """The cumulative shares of two samples as inline SVG."""
    from markupsafe import Markup

    low, high = min(*reference, *values), max(*reference, *values)
    span = high - low or 1.0

    def line(sample: Sequence[float]) -> str:
        points = [f"0,{_HEIGHT_PX}"]
        for rank, value in enumerate(sorted(sample)):
            x = (value - low) / span * _WIDTH_PX
            points += [f"{x:.1f},{_HEIGHT_PX * (1 - share / len(sample)):.1f}" for share in (rank, rank + 1)]
        return " ".join([*points, f"{_WIDTH_PX},0"])

    drawn = "".join(
        f'<polyline points="{line(sample)}" fill="none" stroke="var({colour})" stroke-width="2"/>'
        for sample, colour in ((reference, "--soft"), (values, "--accent"))
    )
    return Markup(  # noqa: S704 - numbers alone
        f'<svg viewBox="-2 -4 {_WIDTH_PX + 4} {_HEIGHT_PX + 24}" width="{_WIDTH_PX + 4}" role="img" '
        f'aria-label="cumulative shares"><line class="axis" x1="0" y1="{_HEIGHT_PX}" x2="{_WIDTH_PX}" '
        f'y2="{_HEIGHT_PX}"/>{drawn}<text x="0" y="{_HEIGHT_PX + 16}">{low:.3g}</text>'
        f'<text x="{_WIDTH_PX}" y="{_HEIGHT_PX + 16}" text-anchor="end">{high:.3g}</text></svg>'
    )
