"""drift's page: which features moved, how far, and the most unusual new images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segops.contracts.usage import Drift, Reference

PAGE = "index.html"
_WIDTH_PX, _HEIGHT_PX = 260, 110


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
        "drift.html.j2",
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
