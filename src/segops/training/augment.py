"""Random changes of a training batch, image and mask together, on the batch's device.

Axes: B batch, C channels, H height, W width. Images are float in [0, 1], masks uint8 class indices. Random numbers come
from a generator on the CPU, so that a seed means the same changes on every device.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from segops.candidate_params import AugmentParams


def augment(image_BCHW: Tensor, mask_BHW: Tensor, params: AugmentParams, generator: Generator) -> tuple[Tensor, Tensor]:
    """Flip, turn, warp and re-light each image of a batch by its own random draw; shapes and dtypes stay.

    Turns by 90 degrees need square images and are left out for others.
    """
    image_BCHW, mask_BHW = _flip_and_turn(image_BCHW, mask_BHW, params, generator)
    if params.rotate_deg or params.scale or params.translate:
        grid_BHW2 = _affine_grid(image_BCHW, params, generator)
        image_BCHW = _sample(image_BCHW, grid_BHW2, "bilinear")
        mask_BHW = _sample(mask_BHW[:, None].float(), grid_BHW2, "nearest")[:, 0].to(mask_BHW.dtype)
    if params.brightness or params.contrast:
        image_BCHW = _relight(image_BCHW, params, generator)
    return image_BCHW, mask_BHW


def _flip_and_turn(
    image_BCHW: Tensor, mask_BHW: Tensor, params: AugmentParams, generator: Generator
) -> tuple[Tensor, Tensor]:
    turns = params.rot90 and image_BCHW.shape[2] == image_BCHW.shape[3]
    if not (params.flip or turns):
        return image_BCHW, mask_BHW
    count = len(image_BCHW)
    flips_B2 = torch.randint(2, (count, 2), generator=generator) * params.flip
    turns_B = torch.randint(4, (count,), generator=generator) * turns
    images, masks = torch.empty_like(image_BCHW), torch.empty_like(mask_BHW)
    for i, (flips, turn) in enumerate(zip(flips_B2.tolist(), turns_B.tolist(), strict=True)):
        axes = [axis for axis, flip in zip((-2, -1), flips, strict=True) if flip]
        images[i] = torch.rot90(image_BCHW[i].flip(axes), turn, (-2, -1))
        masks[i] = torch.rot90(mask_BHW[i].flip(axes), turn, (-2, -1))
    return images, masks


def _affine_grid(image_BCHW: Tensor, params: AugmentParams, generator: Generator) -> Tensor:
    """Where each output pixel looks, in grid_sample's coordinates (-1 to 1 over each side)."""
    count, _, height, width = image_BCHW.shape
    angle = _symmetric(count, math.radians(params.rotate_deg), generator)
    zoom = 1 + _symmetric(count, params.scale, generator)
    shift_B2 = 2 * torch.stack([_symmetric(count, params.translate, generator) for _ in "xy"], dim=1)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    rows = [cos, -sin * height / width, shift_B2[:, 0], sin * width / height, cos, shift_B2[:, 1]]
    theta_B23 = torch.stack(rows, dim=1).view(count, 2, 3).to(image_BCHW.device)
    return F.affine_grid(theta_B23, [count, 1, height, width], align_corners=False)


def _sample(map_BCHW: Tensor, grid_BHW2: Tensor, mode: str) -> Tensor:
    # What a warp moves in from outside is mirrored: black corners would be a class of their own on stained tissue.
    return F.grid_sample(map_BCHW, grid_BHW2, mode, padding_mode="reflection", align_corners=False)


def _relight(image_BCHW: Tensor, params: AugmentParams, generator: Generator) -> Tensor:
    # Factors, as in torchvision's ColorJitter: an offset would turn dim images black.
    count = len(image_BCHW)
    contrast = 1 + _symmetric(count, params.contrast, generator).to(image_BCHW.device).view(-1, 1, 1, 1)
    brightness = 1 + _symmetric(count, params.brightness, generator).to(image_BCHW.device).view(-1, 1, 1, 1)
    mean = image_BCHW.mean(dim=(1, 2, 3), keepdim=True)
    return (((image_BCHW - mean) * contrast + mean) * brightness).clamp(0, 1)


def _symmetric(count: int, half_range: float, generator: Generator) -> Tensor:
    """Uniform in -half_range .. half_range."""
    return (torch.rand(count, generator=generator) * 2 - 1) * half_range
