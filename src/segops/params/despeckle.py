"""Defines the params of a filter against speckle, the grain of ultrasound images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from segops.params.section import Section


class DespeckleParams(Section):
    """A filter against speckle, of each channel by itself."""

    filter: Literal["median", "lee", "nonlocal_means"] = Field(
        description="the median of a window; Lee's filter (1980), which keeps what varies more than the noise; or the "
        "mean of pixels around whose patches are alike (Buades et al. 2005)"
    )
    size_px: int = Field(5, ge=3, le=15, description="side of the window, or of a patch, native pixels; odd")
    search_px: int = Field(11, ge=3, le=31, description="nonlocal_means: side of the square of pixels compared; odd")
    strength: float | None = Field(
        None,
        gt=0,
        description="lee: the noise's deviation over its mean; nonlocal_means: what difference of patches is noise, "
        "in shares of full scale; null: found in each image",
    )

    @model_validator(mode="after")
    def _odd(self) -> DespeckleParams:
        """Refuse even sides, and a strength of the median, which has none."""
        if self.size_px % 2 == 0 or self.search_px % 2 == 0:
            raise ValueError("size_px and search_px are sides of squares around a pixel: odd numbers")
        if self.filter == "median" and self.strength is not None:
            raise ValueError("filter median has no strength; set it to null")
        return self
