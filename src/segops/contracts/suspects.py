"""Defines what suspects writes: labels that disagree with sure predictions, the worst first."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract, Sha256

SUSPECT_IMAGES_FILE, SUSPECT_REGIONS_FILE = "images.csv", "regions.csv"

# SUSPECT_IMAGES_FILE: a row per image outside test, the likeliest error first.
SUSPECT_IMAGE_COLUMNS = ("image_id", "group_id", "subset", "source_image", "score", "regions", "dice")
# SUSPECT_REGIONS_FILE: a row per region, the heaviest first; top to right in pixels. Where given and suggested are
# equal, the region is an object of its own that was drawn with another.
SUSPECT_REGION_COLUMNS = (
    "image_id", "given", "suggested", "area_px", "weight_px", "top", "left", "bottom", "right",
)  # fmt: skip


class Suspects(Contract):
    """suspects.json: how often labels and sure predictions agree."""

    FILE: ClassVar[str] = "suspects.json"
    candidate: str
    weights_sha256: Sha256
    manifest_sha256: Sha256
    classes: list[str]
    tolerance_px: int = Field(ge=0, description="regions in which no disc of this radius fits are left out")
    thresholds: list[float | None] = Field(
        description="by class: mean out-of-fold probability where it is labelled; null: nothing is"
    )
    confident_joint: list[list[int]] = Field(
        description="pixels by label (rows) and by the class that reaches its threshold (columns)"
    )
    images: int = Field(ge=1, description="outside test")
    suspect_images: int = Field(ge=0, description="with a region")
    regions: int = Field(ge=0)
