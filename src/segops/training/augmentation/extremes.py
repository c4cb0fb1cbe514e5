"""Lists each element of augmentation alone, as far as its range goes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator

from segops.params.augment import AugmentParams
from segops.training.augmentation.changes import Changes, draw_changes, tilts, turn_of

_STAINS = ("haematoxylin", "eosin")  # and diaminobenzidine, which few slides have
_CROPS = ((-1, "top left"), (1, "bottom right"))
_FLIPS = ("top to bottom", "left to right")
_FLIPS_OF_VOLUMES = ("feet to head", "back to front", "left to right")
_TURNS = ("", ", about the axis from front to back", ", about the axis from right to left")


class _Shape(NamedTuple):
    """The sides of an image, and the distance of its pixels along them."""

    size: tuple[int, ...]
    step_mm: tuple[float, ...]


def extremes(
    params: AugmentParams, size: tuple[int, ...], spacing_mm: Sequence[float] | None = None
) -> Iterator[tuple[str, Changes]]:
    """Yield a caption and the changes of an image, for each end of each element that is on.

    Elastic shifts have no extreme: a draw of a fixed seed is shown in its place.

    Args:
        size: height and width, of a volume depth before them.
        spacing_mm: of a volume's voxels; None: the same along all axes.
    """
    shape = _Shape(size, tuple(spacing_mm or (1.0,) * len(size)))
    yield from _turned(params, shape)
    yield from _rotated(params, shape)
    yield from _warped(params, shape)
    yield from _recoloured(params)
    yield from _degraded(params)


def on_and_off(params: AugmentParams) -> tuple[dict[str, Any], list[str]]:
    """Return the elements that are on, with details that differ from their defaults, and the params that are off."""
    details = {name for name in AugmentParams.model_fields if name.endswith(("_probability", "_grid", "_at"))}
    off = [name for name, value in params if not value and name not in details]
    plain = {name for name in details if getattr(params, name) == AugmentParams.model_fields[name].default}
    return {name: value for name, value in params if name not in off and name not in plain}, off


def _turned(params: AugmentParams, shape: _Shape) -> Iterator[tuple[str, Changes]]:
    """Yield each flip, and a quarter turn of square images."""
    size, step_mm = shape
    still, axes = torch.tensor([0]), len(size)
    names = _FLIPS if axes == 2 else _FLIPS_OF_VOLUMES
    on = (params.flip is True, params.flip in (True, "vertical"), params.flip in (True, "horizontal"))[-axes:]
    for axis, name in reversed(list(enumerate(names))):
        if on[axis]:
            yield f"flip, {name}", Changes(flips_BA=torch.eye(axes, dtype=torch.int64)[axis : axis + 1], turns_B=still)
    if params.rot90 and size[-2] == size[-1] and step_mm[-2] == step_mm[-1]:
        flips_BA = torch.zeros(1, axes, dtype=torch.int64)
        yield "rot90, a quarter turn", Changes(flips_BA=flips_BA, turns_B=torch.tensor([1]))


def _rotated(params: AugmentParams, shape: _Shape) -> Iterator[tuple[str, Changes]]:
    """Yield rotations to both sides: within the image, and of volumes that are turned so out of their slices too."""
    for number, about in enumerate(_TURNS if len(shape.size) == 3 and tilts(shape.step_mm) else _TURNS[:1]):
        for sign, name in ((-1, "-"), (1, "+")):
            if params.rotate_deg:
                turns = [0.0, 0.0, 0.0]
                turns[number] = sign * math.radians(params.rotate_deg)
                yield f"rotate_deg {name}{params.rotate_deg:g}{about}", _affine(shape, turns)


def _warped(params: AugmentParams, shape: _Shape) -> Iterator[tuple[str, Changes]]:
    """Yield zoom, shift and crop at both ends of their ranges, and an elastic shift."""
    axes = len(shape.size)
    for sign in (-1, 1):
        if params.scale:
            yield f"scale, factor {1 + sign * params.scale:.2f}", _affine(shape, zoom=1 + sign * params.scale)
    for sign, name in ((-1, "-"), (1, "+")):
        if params.translate:
            ways = "both ways" if axes == 2 else "all ways"
            yield f"translate {name}{params.translate:g}, {ways}", _affine(shape, shift=sign * params.translate)
    if params.elastic_px:
        alone = AugmentParams(flip=False, rot90=False, elastic_px=params.elastic_px, elastic_grid=params.elastic_grid)
        drawn = draw_changes(1, shape.size, alone, Generator().manual_seed(0), shape.step_mm)
        yield f"elastic_px {params.elastic_px:g}, one draw", drawn
    if params.crop:
        for sign, place in _CROPS if params.crop_at == "random" else ((0, "centre"),):
            crop_BP = torch.tensor([[1 - params.crop, *[sign * params.crop] * axes]])
            yield f"crop to {1 - params.crop:.2f} of the side, {place}", Changes(crop_BP=crop_BP)


def _affine(shape: _Shape, turns: Sequence[float] = (0, 0, 0), zoom: float = 1.0, shift: float = 0.0) -> Changes:
    """Build the changes of an image from turns (radians), a zoom factor and a shift along all axes (share of sides)."""
    angle_B, tilt_B2 = torch.tensor([float(turns[0])]), torch.tensor([turns[1:]], dtype=torch.float32)
    turn_B33 = turn_of(angle_B, tilt_B2, shape.size, shape.step_mm) if len(shape.size) == 3 else None
    shift_BA = torch.full((1, len(shape.size)), shift)
    return Changes(angle_B=angle_B, zoom_B=torch.tensor([zoom]), shift_BA=shift_BA, turn_B33=turn_B33)


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
