"""Defines how candidates are compared."""

from __future__ import annotations

from pydantic import Field

from segops.params.section import Section


class CompareParams(Section):
    """How it is judged which candidate leads, and whether the lead is real."""

    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="coverage of intervals; the rest to 1 is the tests' level"
    )
    subgroup_margin: float = Field(
        0.05, ge=0, le=1, description="a subgroup in which the leader lies further below another is marked (Dice)"
    )
    min_subgroup_images: int = Field(
        5, ge=1, description="smaller modalities and sizes aren't judged, smaller groups not listed"
    )
    page_mib: float = Field(
        20.0,
        ge=0,
        le=500,
        description="most pictures in the comparison page, MiB; images on which each candidate is good are left out "
        "first",
    )
