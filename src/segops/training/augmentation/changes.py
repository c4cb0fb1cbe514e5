"""Draws what augmentation does to each image of a batch, with a generator on the CPU.

A seed means the same changes on every device, and N processes draw what a single process would.

Axes: B batch, G coarse grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor

from segops.params.augment import AugmentParams


@dataclass(frozen=True)
class Changes:
    """What happens to each image of a batch, on the CPU; None: nothing of the kind.

    Attributes:
        flips_B2: 1 to flip rows, columns.
        turns_B: quarter turns.
        angle_B, zoom_B, shift_B2: radians, factor, share of width and height.
        elastic_B2GG: shifts of a coarse grid along width and height, pixels.
        crop_B3: share of the side that stays, and where its middle lies along width and height (-1 to 1 over the side).
        stain_B32: what each stain's amount is multiplied by, less 1, and what is added.
        contrast_B, brightness_B: factors.
        gamma_B: exponents.
        blur_B: standard deviation, pixels.
        noise_B: standard deviation of Gaussian noise.
        salt_pepper_B: share of pixels.
        seed_B: of noise, and of salt and pepper.
    """

    flips_B2: Tensor | None = None
    turns_B: Tensor | None = None
    angle_B: Tensor | None = None
    zoom_B: Tensor | None = None
    shift_B2: Tensor | None = None
    elastic_B2GG: Tensor | None = None
    crop_B3: Tensor | None = None
    stain_B32: Tensor | None = None
    contrast_B: Tensor | None = None
    brightness_B: Tensor | None = None
    gamma_B: Tensor | None = None
    blur_B: Tensor | None = None
    noise_B: Tensor | None = None
    salt_pepper_B: Tensor | None = None
    seed_B: Tensor | None = None

    def of(self, images: list[int]) -> Changes:
        """Return the changes of some images of the batch."""
        drawn = {change.name: getattr(self, change.name) for change in fields(self)}
        return Changes(**{name: None if values is None else values[images] for name, values in drawn.items()})


def draw_changes(count: int, size: tuple[int, int], params: AugmentParams, generator: Generator) -> Changes:
    """Draw random changes for `count` images of height and width `size`.

    Turns by 90 degrees need square images.
    """
    drawn: dict[str, Tensor] = {}
    turns = params.rot90 and size[0] == size[1]
    if params.flip or turns:
        axes = torch.tensor([params.flip in (True, "vertical"), params.flip in (True, "horizontal")])
        drawn["flips_B2"] = torch.randint(2, (count, 2), generator=generator) * axes
        drawn["turns_B"] = torch.randint(4, (count,), generator=generator) * turns
    if params.rotate_deg or params.scale or params.translate:
        drawn |= _affine(count, params, generator)
    if params.brightness or params.contrast:
        drawn["contrast_B"] = 1 + _symmetric(count, params.contrast, generator)
        drawn["brightness_B"] = 1 + _symmetric(count, params.brightness, generator)
        chosen_B = _chosen(count, params.light_probability, generator)
        drawn |= {name: torch.where(chosen_B, drawn[name], 1.0) for name in ("contrast_B", "brightness_B")}
    return Changes(**drawn, **_bent(count, params, generator), **_recoloured(count, params, generator))


def _affine(count: int, params: AugmentParams, generator: Generator) -> dict[str, Tensor]:
    """Draw rotation, zoom and shift; images that aren't chosen keep still."""
    angle_B = _symmetric(count, math.radians(params.rotate_deg), generator)
    zoom_B = 1 + _symmetric(count, params.scale, generator)
    shift_B2 = torch.stack([_symmetric(count, params.translate, generator) for _ in "xy"], dim=1)
    chosen_B = _chosen(count, params.affine_probability, generator)
    return {
        "angle_B": angle_B * chosen_B,
        "zoom_B": torch.where(chosen_B, zoom_B, 1.0),
        "shift_B2": shift_B2 * chosen_B[:, None],
    }


def _bent(count: int, params: AugmentParams, generator: Generator) -> dict[str, Tensor]:
    """Draw elastic shifts and crops."""
    drawn = {}
    if params.elastic_px:
        side = params.elastic_grid
        shift_B2GG = torch.randn(count, 2, side, side, generator=generator) * params.elastic_px
        drawn["elastic_B2GG"] = shift_B2GG * _chosen(count, params.elastic_probability, generator).view(-1, 1, 1, 1)
    if params.crop:
        cut_B = torch.rand(count, generator=generator) * params.crop
        cut_B = cut_B * _chosen(count, params.crop_probability, generator)
        place_B2 = _symmetric((count, 2), float(params.crop_at == "random"), generator)
        drawn["crop_B3"] = torch.cat([1 - cut_B[:, None], cut_B[:, None] * place_B2], dim=1)
    return drawn


def _recoloured(count: int, params: AugmentParams, generator: Generator) -> dict[str, Tensor]:
    """Draw changes of stain, gamma, blur and noise, and the seeds of the noise."""
    drawn = {}
    if params.stain:
        stain_B32 = _symmetric((count, 3, 2), params.stain, generator)
        drawn["stain_B32"] = stain_B32 * _chosen(count, params.stain_probability, generator).view(-1, 1, 1)
    if params.gamma:
        exponent_B = _symmetric(count, math.log1p(params.gamma), generator).exp()
        chosen_B = _chosen(count, params.gamma_probability, generator)
        drawn["gamma_B"] = torch.where(chosen_B, exponent_B, 1.0)
    for name in ("blur_px", "noise", "salt_pepper"):
        if most := getattr(params, name):
            amount_B = torch.rand(count, generator=generator) * most
            chosen_B = _chosen(count, getattr(params, f"{name.removesuffix('_px')}_probability"), generator)
            drawn[f"{name.removesuffix('_px')}_B"] = amount_B * chosen_B
    if params.noise or params.salt_pepper:
        drawn["seed_B"] = torch.randint(2**31, (count,), generator=generator)
    return drawn


def _chosen(count: int, probability: float, generator: Generator) -> Tensor:
    """Draw which of `count` images have a change."""
    if probability == 1:
        return torch.ones(count, dtype=torch.bool)
    return torch.rand(count, generator=generator) < probability


def _symmetric(shape: int | tuple[int, ...], half_range: float, generator: Generator) -> Tensor:
    """Draw uniform numbers in -half_range .. half_range."""
    return (torch.rand(shape, generator=generator) * 2 - 1) * half_range
