"""Random changes of a training batch, image and mask together, on the batch's device.

Axes: B batch, C channels, H height, W width. Images are float in [0, 1], masks uint8 class indices. Random numbers come
from a generator on the CPU, so that a seed means the same changes on every device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from segops.candidate_params import AugmentParams
from segops.training.runtime import put


@dataclass(frozen=True)
class Changes:
    """What happens to each image of a batch, on the CPU; None: nothing of the kind.

    Attributes:
        flips_B2: 1 to flip rows, columns.
        turns_B: quarter turns.
        angle_B, zoom_B, shift_B2: radians, factor, share of width and height.
        contrast_B, brightness_B: factors.
    """

    flips_B2: Tensor | None = None
    turns_B: Tensor | None = None
    angle_B: Tensor | None = None
    zoom_B: Tensor | None = None
    shift_B2: Tensor | None = None
    contrast_B: Tensor | None = None
    brightness_B: Tensor | None = None

    def of(self, images: list[int]) -> Changes:
        """The changes of some images of the batch."""
        drawn = {one.name: getattr(self, one.name) for one in fields(self)}
        return Changes(**{name: None if values is None else values[images] for name, values in drawn.items()})


def draw_changes(count: int, size: tuple[int, int], params: AugmentParams, generator: Generator) -> Changes:
    """Random changes for `count` images of height and width `size`. Turns by 90 degrees need square images."""
    drawn: dict[str, Tensor] = {}
    turns = params.rot90 and size[0] == size[1]
    if params.flip or turns:
        drawn["flips_B2"] = torch.randint(2, (count, 2), generator=generator) * params.flip
        drawn["turns_B"] = torch.randint(4, (count,), generator=generator) * turns
    if params.rotate_deg or params.scale or params.translate:
        drawn["angle_B"] = _symmetric(count, math.radians(params.rotate_deg), generator)
        drawn["zoom_B"] = 1 + _symmetric(count, params.scale, generator)
        drawn["shift_B2"] = torch.stack([_symmetric(count, params.translate, generator) for _ in "xy"], dim=1)
    if params.brightness or params.contrast:
        drawn["contrast_B"] = 1 + _symmetric(count, params.contrast, generator)
        drawn["brightness_B"] = 1 + _symmetric(count, params.brightness, generator)
    return Changes(**drawn)


def augment(image_BCHW: Tensor, mask_BHW: Tensor, changes: Changes) -> tuple[Tensor, Tensor]:
    """Flip, turn, warp and re-light each image of a batch by its own changes; shapes and dtypes stay."""
    if changes.flips_B2 is not None and changes.turns_B is not None:
        image_BCHW, mask_BHW = _flip_and_turn(image_BCHW, mask_BHW, changes.flips_B2, changes.turns_B)
    if changes.angle_B is not None:
        grid_BHW2 = _affine_grid(image_BCHW, changes)
        image_BCHW = _sample(image_BCHW, grid_BHW2, "bilinear")
        mask_BHW = _sample(mask_BHW[:, None].float(), grid_BHW2, "nearest")[:, 0].to(mask_BHW.dtype)
    if changes.contrast_B is not None and changes.brightness_B is not None:
        image_BCHW = _relight(image_BCHW, changes.contrast_B, changes.brightness_B)
    return image_BCHW, mask_BHW


def _flip_and_turn(image_BCHW: Tensor, mask_BHW: Tensor, flips_B2: Tensor, turns_B: Tensor) -> tuple[Tensor, Tensor]:
    images, masks = torch.empty_like(image_BCHW), torch.empty_like(mask_BHW)
    for i, (flips, turn) in enumerate(zip(flips_B2.tolist(), turns_B.tolist(), strict=True)):
        axes = [axis for axis, flip in zip((-2, -1), flips, strict=True) if flip]
        images[i] = torch.rot90(image_BCHW[i].flip(axes), turn, (-2, -1))
        masks[i] = torch.rot90(mask_BHW[i].flip(axes), turn, (-2, -1))
    return images, masks


def _affine_grid(image_BCHW: Tensor, changes: Changes) -> Tensor:
    """Where each output pixel looks, in grid_sample's coordinates (-1 to 1 over each side)."""
    assert changes.angle_B is not None and changes.zoom_B is not None and changes.shift_B2 is not None  # noqa: PT018
    count, _, height, width = image_BCHW.shape
    shift_B2 = 2 * changes.shift_B2
    cos, sin = torch.cos(changes.angle_B) / changes.zoom_B, torch.sin(changes.angle_B) / changes.zoom_B
    rows = [cos, -sin * height / width, shift_B2[:, 0], sin * width / height, cos, shift_B2[:, 1]]
    theta_B23 = put(torch.stack(rows, dim=1).view(count, 2, 3), image_BCHW.device)
    return F.affine_grid(theta_B23, [count, 1, height, width], align_corners=False)


def _sample(map_BCHW: Tensor, grid_BHW2: Tensor, mode: str) -> Tensor:
    # What a warp moves in from outside is mirrored: black corners would be a class of their own on stained tissue.
    return F.grid_sample(map_BCHW, grid_BHW2, mode, padding_mode="reflection", align_corners=False)


def _relight(image_BCHW: Tensor, contrast_B: Tensor, brightness_B: Tensor) -> Tensor:
    # Factors, as in torchvision's ColorJitter: an offset would turn dim images black.
    contrast, brightness = (put(one, image_BCHW.device).view(-1, 1, 1, 1) for one in (contrast_B, brightness_B))
    mean = image_BCHW.mean(dim=(1, 2, 3), keepdim=True)
    return (((image_BCHW - mean) * contrast + mean) * brightness).clamp(0, 1)


def _symmetric(count: int, half_range: float, generator: Generator) -> Tensor:
    """Uniform in -half_range .. half_range."""
    return (torch.rand(count, generator=generator) * 2 - 1) * half_range
