"""Defines the params of `segops drift`: when new images count as unlike those of training."""

from __future__ import annotations

from pydantic import Field

from segops.params.section import Section


class DriftParams(Section):
    """A feature drifts when its difference is both large and more than chance."""

    min_images: int = Field(8, ge=2, description="fewer new images are refused: they can't show a drift")
    distance: float = Field(
        0.3, gt=0, lt=1, description="smallest Kolmogorov-Smirnov distance that counts: the widest gap between shares"
    )
    alpha: float = Field(
        0.01, gt=0, lt=1, description="largest p-value that counts, with Holm's correction for several features"
    )
    shown_images: int = Field(12, ge=0, le=100, description="most unusual new images on the page")
