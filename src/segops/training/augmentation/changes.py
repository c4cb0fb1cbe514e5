"""Draws what augmentation does to each image of a batch, with a generator on the CPU.

A seed means the same changes on every device, and N processes draw what a single process would.

Axes: B batch, A axes of an image or a volume, G coarse grid, of as many axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor

from segops.params.augment import AugmentParams

_ANISOTROPIC = 3  # nnU-Net's `ANISO_THRESHOLD`


@dataclass(frozen=True)
class Changes:
    """What happens to each image of a batch, on the CPU; None: nothing of the kind.

    Attributes:
        flips_BA: 1 to flip along an axis; rows, columns, of volumes slices before them.
        turns_B: quarter turns of rows and columns.
        angle_B, zoom_B, shift_BA: radians, factor, share of width and height, of volumes depth after them.
        turn_B33: of volumes: `angle_B` and turns about height and width, of coordinates -1 to 1 over each side.
        elastic_BAG: shifts of a coarse grid along width and height (and depth), pixels.
        crop_BP: share of the side that stays, and where its middle lies along width and height, and depth (-1 to 1 over
            the side).
        stain_B32: what each stain's amount is multiplied by, less 1, and what is added.
        contrast_B, brightness_B: factors.
        gamma_B: exponents.
        blur_B: standard deviation, pixels.
        noise_B: standard deviation of Gaussian noise.
        salt_pepper_B: share of pixels.
        seed_B: of noise, and of salt and pepper.
    """

    flips_BA: Tensor | None = None
    turns_B: Tensor | None = None
    angle_B: Tensor | None = None
    zoom_B: Tensor | None = None
    shift_BA: Tensor | None = None
    turn_B33: Tensor | None = None
    elastic_BAG: Tensor | None = None
    crop_BP: Tensor | None = None
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


def draw_changes(
    count: int,
    size: tuple[int, ...],
    params: AugmentParams,
    generator: Generator,
    spacing_mm: Sequence[float] | None = None,
) -> Changes:
    """Draw random changes for `count` images of height and width `size`, or volumes of depth, height and width.

    Turns by 90 degrees need square images. Volumes are turned about all axes, those much coarser along an axis within
    slices alone (nnU-Net's rule).

    Args:
        spacing_mm: of a volume's voxels; None: the same along all axes.
    """
    drawn: dict[str, Tensor] = {}
    step_mm = tuple(spacing_mm or (1.0,) * len(size))
    turns = params.rot90 and size[-2] == size[-1] and step_mm[-2] == step_mm[-1]
    if params.flip or turns:
        flipped = [params.flip is True, params.flip in (True, "vertical"), params.flip in (True, "horizontal")]
        axes = torch.tensor(flipped[-len(size) :])
        drawn["flips_BA"] = torch.randint(2, (count, len(size)), generator=generator) * axes
        drawn["turns_B"] = torch.randint(4, (count,), generator=generator) * turns
    if params.rotate_deg or params.scale or params.translate:
        drawn |= _affine(count, len(size), params, generator)
        if len(size) == 3:
            tilt_B2 = _tilt(drawn["angle_B"], params, step_mm, generator)
            drawn["turn_B33"] = turn_of(drawn["angle_B"], tilt_B2, size, step_mm)
    if params.brightness or params.contrast:
        drawn["contrast_B"] = 1 + _symmetric(count, params.contrast, generator)
        drawn["brightness_B"] = 1 + _symmetric(count, params.brightness, generator)
        chosen_B = _chosen(count, params.light_probability, generator)
        drawn |= {name: torch.where(chosen_B, drawn[name], 1.0) for name in ("contrast_B", "brightness_B")}
    bent = _bent(count, len(size), params, generator)
    return Changes(**drawn, **bent, **_recoloured(count, params, generator))


def _affine(count: int, axes: int, params: AugmentParams, generator: Generator) -> dict[str, Tensor]:
    """Draw rotation, zoom and shift; images that aren't chosen keep still."""
    angle_B = _symmetric(count, math.radians(params.rotate_deg), generator)
    zoom_B = 1 + _symmetric(count, params.scale, generator)
    shift_BA = torch.stack([_symmetric(count, params.translate, generator) for _ in range(axes)], dim=1)
    chosen_B = _chosen(count, params.affine_probability, generator)
    return {
        "angle_B": angle_B * chosen_B,
        "zoom_B": torch.where(chosen_B, zoom_B, 1.0),
        "shift_BA": shift_BA * chosen_B[:, None],
    }


def _tilt(angle_B: Tensor, params: AugmentParams, step_mm: Sequence[float], generator: Generator) -> Tensor:
    """Draw the turns of volumes about height and width; 0 where voxels are much coarser along an axis.

    A volume that isn't turned within its slices (`angle_B` is 0) isn't tilted either.
    """
    most = math.radians(params.rotate_deg) if tilts(step_mm) else 0.0
    return _symmetric((len(angle_B), 2), most, generator) * (angle_B != 0)[:, None]


def tilts(step_mm: Sequence[float]) -> bool:
    """Return whether volumes of such voxels are turned out of their slices too."""
    return max(step_mm) < _ANISOTROPIC * min(step_mm)


def turn_of(angle_B: Tensor, tilt_B2: Tensor, size: Sequence[int], step_mm: Sequence[float]) -> Tensor:
    """Return `turn_B33` of volumes of a size: turns in mm, radians within slices and about height and width."""
    side_mm = torch.tensor([side * step for side, step in zip(size[::-1], step_mm[::-1], strict=True)])
    return _rotation(angle_B, tilt_B2) * side_mm / side_mm[:, None]


def _rotation(angle_B: Tensor, tilt_B2: Tensor) -> Tensor:
    """Return rotations of width, height and depth: within slices, then about the axes of height and of width."""
    matrix_B33 = torch.eye(3).repeat(len(angle_B), 1, 1)
    for turn_B, (first, second) in zip((angle_B, *tilt_B2.T), ((0, 1), (0, 2), (1, 2)), strict=True):
        plane_B33 = torch.eye(3).repeat(len(turn_B), 1, 1)
        plane_B33[:, first, first] = plane_B33[:, second, second] = turn_B.cos()
        plane_B33[:, second, first] = turn_B.sin()
        plane_B33[:, first, second] = -turn_B.sin()
        matrix_B33 = plane_B33 @ matrix_B33
    return matrix_B33


def _bent(count: int, axes: int, params: AugmentParams, generator: Generator) -> dict[str, Tensor]:
    """Draw elastic shifts and crops."""
    drawn = {}
    if params.elastic_px:
        shift_BAG = torch.randn(count, axes, *[params.elastic_grid] * axes, generator=generator) * params.elastic_px
        chosen_B = _chosen(count, params.elastic_probability, generator)
        drawn["elastic_BAG"] = shift_BAG * chosen_B.view(-1, *[1] * (axes + 1))
    if params.crop:
        cut_B = torch.rand(count, generator=generator) * params.crop
        cut_B = cut_B * _chosen(count, params.crop_probability, generator)
        place_BA = _symmetric((count, axes), float(params.crop_at == "random"), generator)
        drawn["crop_BP"] = torch.cat([1 - cut_B[:, None], cut_B[:, None] * place_BA], dim=1)
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
