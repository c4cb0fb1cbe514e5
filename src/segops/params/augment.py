"""Defines the random changes of training images, `recipe.augment`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segops.params.section import Section


class AugmentParams(Section):
    """Random changes of a training batch, image and mask together.

    A range of 0 is no change; a probability is that of an image having the change at all.
    """

    flip: bool | Literal["horizontal", "vertical"] = Field(
        True, description="left to right and top to bottom, each with probability 0.5; or one of them alone"
    )
    rot90: bool = Field(True, description="turns by 0, 90, 180 or 270 degrees; square inputs only")
    rotate_deg: float = Field(0.0, ge=0, le=180, description="rotation up to this many degrees")
    scale: float = Field(0.0, ge=0, lt=1, description="zoom by a factor in 1 - scale .. 1 + scale")
    translate: float = Field(0.0, ge=0, lt=1, description="shift up to this share of the side")
    affine_probability: float = Field(1.0, gt=0, le=1, description="of rotation, zoom and shift together")
    elastic_px: float = Field(
        0.0, ge=0, le=64, description="elastic deformation: standard deviation of its coarse random shifts, in pixels"
    )
    elastic_grid: int = Field(3, ge=2, le=32, description="coarse shifts a side; those between are interpolated")
    elastic_probability: float = Field(1.0, gt=0, le=1, description="of an elastic deformation")
    crop: float = Field(0.0, ge=0, lt=1, description="cut out a share of the side in 1 - crop .. 1 and resize it back")
    crop_at: Literal["random", "centre"] = Field("random", description="where the cut lies")
    crop_probability: float = Field(1.0, gt=0, le=1, description="of a crop")
    stain: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="RGB of stained tissue: each stain's amount times 1 - stain .. 1 + stain, plus up to +-stain",
    )
    stain_probability: float = Field(1.0, gt=0, le=1, description="of another stain")
    brightness: float = Field(0.0, ge=0, lt=1, description="factor in 1 - brightness .. 1 + brightness")
    contrast: float = Field(0.0, ge=0, lt=1, description="factor in 1 - contrast .. 1 + contrast about the image mean")
    light_probability: float = Field(1.0, gt=0, le=1, description="of brightness and contrast together")
    gamma: float = Field(0.0, ge=0, le=4, description="exponent in 1 / (1 + gamma) .. 1 + gamma, evenly on a log scale")
    gamma_probability: float = Field(1.0, gt=0, le=1, description="of another exponent")
    blur_px: float = Field(0.0, ge=0, le=5, description="Gaussian blur of a standard deviation up to this, in pixels")
    blur_probability: float = Field(1.0, gt=0, le=1, description="of a blur")
    noise: float = Field(
        0.0, ge=0, le=1, description="Gaussian noise of a standard deviation up to this; full scale is 1"
    )
    noise_probability: float = Field(1.0, gt=0, le=1, description="of Gaussian noise")
    salt_pepper: float = Field(0.0, ge=0, le=1, description="up to this share of pixels turns white or black")
    salt_pepper_probability: float = Field(1.0, gt=0, le=1, description="of salt and pepper")
