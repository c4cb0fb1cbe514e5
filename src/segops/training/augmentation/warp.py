"""Flips, turns and warps a batch, on its device.

Axes: B batch, C channels, H height, W width, G coarse grid. A grid_BHW2 says where each output pixel looks, in
grid_sample's coordinates: -1 to 1 over width and height.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from segops.training.augmentation.changes import Changes
from segops.training.process import put


def move(maps_BCHW: Sequence[Tensor], changes: Changes) -> list[Tensor]:
    """Flip, turn and warp maps of the same height and width together; shapes and dtypes stay.

    Maps of floats are sampled bilinearly and keep their range, others at the nearest pixel.
    """
    moved = list(maps_BCHW)
    if changes.flips_B2 is not None and changes.turns_B is not None:
        moved = [_flip_and_turn(map_BCHW, changes.flips_B2, changes.turns_B) for map_BCHW in moved]
    grid_BHW2 = _grid(moved[0].shape[2:], moved[0].device, changes)
    return moved if grid_BHW2 is None else [_sample(map_BCHW, grid_BHW2) for map_BCHW in moved]


def _flip_and_turn(map_BCHW: Tensor, flips_B2: Tensor, turns_B: Tensor) -> Tensor:
    """Flip each image's rows and columns, and turn it by quarter turns."""
    moved = torch.empty_like(map_BCHW)
    for i, (flips, turn) in enumerate(zip(flips_B2.tolist(), turns_B.tolist(), strict=True)):
        axes = [axis for axis, flip in zip((-2, -1), flips, strict=True) if flip]
        moved[i] = torch.rot90(map_BCHW[i].flip(axes), turn, (-2, -1))
    return moved


def _grid(size: Sequence[int], device: torch.device, changes: Changes) -> Tensor | None:
    """Compute where each output pixel looks, through crop, elastic shifts and affine map; None where nothing warps."""
    height, width = size
    grid_BHW2 = None
    if changes.crop_B3 is not None:
        share_B, x_B, y_B = changes.crop_B3.unbind(dim=1)
        none_B = torch.zeros_like(share_B)
        grid_BHW2 = _affine_grid(torch.stack([share_B, none_B, x_B, none_B, share_B, y_B], dim=1), size, device)
    if changes.elastic_B2GG is not None:
        if grid_BHW2 is None:
            still_B6 = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(len(changes.elastic_B2GG), 1)
            grid_BHW2 = _affine_grid(still_B6, size, device)
        grid_BHW2 = grid_BHW2 + _elastic_shift(changes.elastic_B2GG, size, device)
    if changes.angle_B is None:
        return grid_BHW2
    theta_B6 = _affine(changes, height / width)
    if grid_BHW2 is None:
        return _affine_grid(theta_B6, size, device)
    theta_B23 = put(theta_B6.view(-1, 1, 2, 3), device)
    return grid_BHW2 @ theta_B23[..., :2].mT + theta_B23[..., 2].unsqueeze(2)


def _affine(changes: Changes, aspect: float) -> Tensor:
    """Return the rows of the affine map, theta_B6.

    It turns and zooms pixels, not the square that coordinates make of an oblong.
    """
    assert changes.angle_B is not None and changes.zoom_B is not None and changes.shift_B2 is not None  # noqa: PT018
    shift_B2 = 2 * changes.shift_B2
    cos, sin = torch.cos(changes.angle_B) / changes.zoom_B, torch.sin(changes.angle_B) / changes.zoom_B
    return torch.stack([cos, -sin * aspect, shift_B2[:, 0], sin / aspect, cos, shift_B2[:, 1]], dim=1)


def _affine_grid(theta_B6: Tensor, size: Sequence[int], device: torch.device) -> Tensor:
    """Return grid_BHW2 of an affine map."""
    theta_B23 = put(theta_B6.view(-1, 2, 3), device)
    return F.affine_grid(theta_B23, [len(theta_B6), 1, *size], align_corners=False)


def _elastic_shift(shift_B2GG: Tensor, size: Sequence[int], device: torch.device) -> Tensor:
    """Enlarge random shifts of a coarse grid bicubically (Ronneberger et al. 2015, section 3.1); in coordinates."""
    height, width = size
    unit_BGG2 = shift_B2GG * torch.tensor([2 / width, 2 / height]).view(1, 2, 1, 1)
    fine_B2HW = F.interpolate(put(unit_BGG2, device), size=(height, width), mode="bicubic", align_corners=True)
    return fine_B2HW.permute(0, 2, 3, 1)


def _sample(map_BCHW: Tensor, grid_BHW2: Tensor) -> Tensor:
    # What a warp moves in from outside is mirrored: black corners would be a class of their own on stained tissue.
    """Sample a map where a grid looks; what lies outside is mirrored."""
    mode = "bilinear" if map_BCHW.is_floating_point() else "nearest"
    sampled = F.grid_sample(map_BCHW.float(), grid_BHW2, mode, padding_mode="reflection", align_corners=False)
    # Bilinear weights can sum to a little more than 1.
    return sampled.clamp(0, 1) if map_BCHW.is_floating_point() else sampled.to(map_BCHW.dtype)
