"""Defines how candidates are judged."""

from __future__ import annotations

from pydantic import Field

from segops.params.section import Section


class EvaluateParams(Section):
    """How it is measured how good a candidate is, and what is shown of it."""

    confidence: float = Field(0.95, gt=0.5, lt=1, description="coverage of intervals")
    surface_tolerance_mm: float = Field(
        1.0, gt=0, le=100, description="of volumes: how far surfaces may lie apart and still count as surface Dice"
    )
    gallery_images: int = Field(6, ge=1, le=50, description="images each in worst, median and best, and in MLflow")
    thumbnails: int = Field(
        1000,
        ge=0,
        le=100_000,
        description="most validation and test images whose masks compare can show, about 20 kB each",
    )
