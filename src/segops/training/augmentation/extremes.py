"""Lists each element of augmentation alone, as far as its range goes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator

from segops.params.augment import AugmentParams
from segops.training.augmentation.changes import Changes, draw_changes

_STAINS = ("haematoxylin", "eosin")  # and diaminobenzidine, which few slides have
_CROPS = ((-1, "top left"), (1, "bottom right"))


def extremes(params: AugmentParams, size: tuple[int, int]) -> Iterator[tuple[str, Changes]]:
    """Yield a caption and the changes of an image of height and width `size`, for each end of each element that is on.

    Elastic shifts have no extreme: a draw of a fixed seed is shown in its place.
    """
    yield from _turned(params, square=size[0] == size[1])
    yield from _warped(params, size)
    yield from _recoloured(params)
    yield from _degraded(params)


def on_and_off(params: AugmentParams) -> tuple[dict[str, Any], list[str]]:
    """Return the elements that are on, with details that differ from their defaults, and the params that are off."""
    details = {name for name in AugmentParams.model_fields if name.endswith(("_probability", "_grid", "_at"))}
    off = [name for name, value in params if not value and name not in details]
    plain = {name for name in details if getattr(params, name) == AugmentParams.model_fields[name].default}
    return {name: value for name, value in params if name not in off and name not in plain}, off


def _turned(params: AugmentParams, *, square: bool) -> Iterator[tuple[str, Changes]]:
    """Yield each flip, and a quarter turn of square images."""
    still = torch.tensor([0])
    if params.flip in (True, "horizontal"):
        yield "flip, left to right", Changes(flips_BA=torch.tensor([[0, 1]]), turns_B=still)
    if params.flip in (True, "vertical"):
        yield "flip, top to bottom", Changes(flips_BA=torch.tensor([[1, 0]]), turns_B=still)
    if params.rot90 and square:
        yield "rot90, a quarter turn", Changes(flips_BA=torch.tensor([[0, 0]]), turns_B=torch.tensor([1]))


def _warped(params: AugmentParams, size: tuple[int, int]) -> Iterator[tuple[str, Changes]]:
    """Yield rotation, zoom, shift and crop at both ends of their ranges, and an elastic shift."""
    for sign, name in ((-1, "-"), (1, "+")):
        if params.rotate_deg:
            yield f"rotate_deg {name}{params.rotate_deg:g}", _affine(angle=sign * math.radians(params.rotate_deg))
    for sign in (-1, 1):
        if params.scale:
            yield f"scale, factor {1 + sign * params.scale:.2f}", _affine(zoom=1 + sign * params.scale)
    for sign, name in ((-1, "-"), (1, "+")):
        if params.translate:
            yield f"translate {name}{params.translate:g}, both ways", _affine(shift=sign * params.translate)
    if params.elastic_px:
        alone = AugmentParams(flip=False, rot90=False, elastic_px=params.elastic_px, elastic_grid=params.elastic_grid)
        yield f"elastic_px {params.elastic_px:g}, one draw", draw_changes(1, size, alone, Generator().manual_seed(0))
    if params.crop:
        for sign, place in _CROPS if params.crop_at == "random" else ((0, "centre"),):
            crop_BP = torch.tensor([[1 - params.crop, sign * params.crop, sign * params.crop]])
            yield f"crop to {1 - params.crop:.2f} of the side, {place}", Changes(crop_BP=crop_BP)


def _affine(*, angle: float = 0.0, zoom: float = 1.0, shift: float = 0.0) -> Changes:
    """Build the changes of an image from a single angle (radians), zoom factor and shift (share of the size)."""
    shift_BA = torch.tensor([[shift, shift]])
    return Changes(angle_B=torch.tensor([angle]), zoom_B=torch.tensor([zoom]), shift_BA=shift_BA)


def _recoloured(params: AugmentParams) -> Iterator[tuple[str, Changes]]:
    """Yield stains, brightness, contrast and gamma at both ends of their ranges."""
    for number, stain in enumerate(_STAINS):
        for sign, name in ((-1, "less"), (1, "more")):
            if params.stain:
                stain_B32 = torch.zeros(1, 3, 2)
                stain_B32[0, number] = sign * params.stain
                yield f"stain {params.stain:g}, {name} {stain}", Changes(stain_B32=stain_B32)
    ones = torch.ones(1)
    for sign in (-1, 1):
        if params.brightness:
            brightness_B = 1 + sign * params.brightness * ones
            yield f"brightness, factor {brightness_B.item():.2f}", Changes(contrast_B=ones, brightness_B=brightness_B)
    for sign in (-1, 1):
        if params.contrast:
            contrast_B = 1 + sign * params.contrast * ones
            yield f"contrast, factor {contrast_B.item():.2f}", Changes(contrast_B=contrast_B, brightness_B=ones)
    for sign in (-1, 1):
        if params.gamma:
            gamma_B = (1 + params.gamma) ** (sign * ones)
            yield f"gamma, exponent {gamma_B.item():.2f}", Changes(gamma_B=gamma_B)


def _degraded(params: AugmentParams) -> Iterator[tuple[str, Changes]]:
    """Yield blur, noise, salt and pepper at their strongest."""
    ones, seed_B = torch.ones(1), torch.tensor([0])
    if params.blur_px:
        yield f"blur_px {params.blur_px:g}", Changes(blur_B=params.blur_px * ones)
    if params.noise:
        yield f"noise {params.noise:g}", Changes(noise_B=params.noise * ones, seed_B=seed_B)
    if params.salt_pepper:
        yield f"salt_pepper {params.salt_pepper:g}", Changes(salt_pepper_B=params.salt_pepper * ones, seed_B=seed_B)
