"""Defines what data may train a model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segops.params.section import Fraction, Section


class ValidateParams(Section):
    """What data must fulfil to train a model. Fractions are of images unless said otherwise."""

    min_images: int = Field(10, ge=1, description="fewest images")
    min_groups: int = Field(3, ge=3, description="fewest groups: one a subset")
    min_size_px: int = Field(32, ge=1, description="shortest allowed image side, pixels")
    max_size_px: int = Field(16384, ge=1, description="longest allowed image side, pixels")
    channels: list[int] = Field([1, 3], min_length=1, description="allowed channel counts")
    dtypes: list[Literal["uint8", "uint16", "int16", "float32"]] = Field(
        ["uint8", "uint16"], min_length=1, description="allowed types; int16 and float32 hold units of their own"
    )
    min_intensity_std: float = Field(1e-3, ge=0, description="below it an image is constant; full scale is 1")
    allow_empty_masks: bool = Field(False, description="true: an image without foreground is no warning")
    allow_full_masks: bool = Field(False, description="true: an image without background is no warning")
    foreground: tuple[Fraction, Fraction] = Field((0.001, 0.9), description="usual range of the foreground fraction")
    foreground_mostly: Fraction = Field(0.95, description="share of images that must lie in `foreground`")
    mean_foreground: tuple[Fraction, Fraction] = Field((0.005, 0.8), description="range of the mean foreground")
    max_saturated: Fraction = Field(0.5, description="largest share of saturated pixels in an image")
    max_group_share: Fraction = Field(0.5, description="largest share of the images in one group")
    compared_images: int = Field(
        240, ge=0, description="images whose masks are compared with those of other images, a sample; 0: none"
    )
    max_misplaced_masks: Fraction = Field(
        0.1,
        description="largest share of compared images that another image's mask, or the own one turned, fits better",
    )
    min_mask_fit: Fraction = Field(
        0.6, description="smallest mean share of other images' masks that fit an image less well than its own"
    )
