"""How candidates are compared."""

from __future__ import annotations

from pydantic import Field

from segops.section import Section


class CompareParams(Section):
    """Which candidate leads, and is the lead real."""

    bootstrap: int = Field(5000, ge=100, le=100_000, description="resamples for paired differences")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="coverage of intervals; the rest to 1 is the tests' level"
    )
    seed: int = Field(0, ge=0, description="seed of the resampling")
    subgroup_margin: float = Field(
        0.05, ge=0, le=1, description="a subgroup in which the leader lies further below another is marked (Dice)"
    )
    min_subgroup_images: int = Field(
        5, ge=1, description="smaller modalities and sizes aren't judged, smaller groups not listed"
    )
    images: int = Field(
        20, ge=0, le=100, description="shown side by side, of a pair and subset: those that differ most"
    )
