"""drift's page: which features moved, how far, and the most unusual new images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segops.contracts.usage import Drift, Reference

PAGE = "index.html"


def drift_page(
    drift: Drift,
    reference: Reference,
    shown: str,
    rows: Sequence[Mapping[str, float]],
    pictures: Mapping[str, str],
) -> str:
    """Render the page about drift as HTML.

    Args:
        shown: the model's name for people.
        rows: features of the new images.
        pictures: data URIs of the unusual images, by name.
    """
    from segops.reports.charts.distributions import cumulative
    from segops.reports.pages import render

    points_of = {**reference.of_images, **reference.of_predictions}
    return render(
        "drift.html.j2",
        drift=drift,
        shown=shown,
        judged=sum(feature.reason is None for feature in drift.features),
        cards=[
            (f"{len(drift.drifted)} of {len(drift.features)}", "features drift"),
            (f"{drift.images:,}", "new images"),
            (f"{drift.training_images:,}", "training images"),
            (f"{drift.validation_images:,} in {drift.validation_groups:,}", "validation images, groups"),
        ],
        plots=[
            (
                feature.name,
                feature.drifted,
                cumulative(feature.name, points_of[feature.name], [row[feature.name] for row in rows]),
            )
            for feature in drift.features
        ],
        pictures=[(image, pictures[image.image]) for image in drift.unusual],
    )
