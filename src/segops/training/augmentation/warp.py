"""Flips, turns and warps a batch, on its device.

Axes: B batch, C channels, H height, W width, G coarse grid; volumes have a depth D before H. A grid_BHW2 or grid_BDHW3
says where each output pixel looks, in grid_sample's coordinates: -1 to 1 over width and height, and depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from segops.training.augmentation.changes import Changes
from segops.training.process import put


def move(maps_BCHW: Sequence[Tensor], changes: Changes) -> list[Tensor]:
    """Flip, turn and warp maps of the same size together; shapes and dtypes stay.

    Maps of floats are sampled bilinearly and keep their range, others at the nearest pixel.
    """
    moved = list(maps_BCHW)
    if changes.flips_BA is not None and changes.turns_B is not None:
        moved = [_flip_and_turn(map_BCHW, changes.flips_BA, changes.turns_B) for map_BCHW in moved]
    grid_BHW2 = _grid(moved[0].shape[2:], moved[0].device, changes)
    return moved if grid_BHW2 is None else [_sample(map_BCHW, grid_BHW2) for map_BCHW in moved]


def _flip_and_turn(map_BCHW: Tensor, flips_BA: Tensor, turns_B: Tensor) -> Tensor:
    """Flip each image along its axes, and turn its rows and columns by quarter turns."""
    moved = torch.empty_like(map_BCHW)
    for i, (flips, turn) in enumerate(zip(flips_BA.tolist(), turns_B.tolist(), strict=True)):
        axes = [axis for axis, flip in zip(range(-len(flips), 0), flips, strict=True) if flip]
        moved[i] = torch.rot90(map_BCHW[i].flip(axes), turn, (-2, -1))
    return moved


def _grid(size: Sequence[int], device: torch.device, changes: Changes) -> Tensor | None:
    """Compute where each output pixel looks, through crop, elastic shifts and affine map; None where nothing warps."""
    grid = None
    if changes.crop_BP is not None:
        share_B1, place_BA = changes.crop_BP.split([1, len(size)], dim=1)
        grid = _affine_grid(_theta(torch.diag_embed(share_B1.expand_as(place_BA)), place_BA), size, device)
    if changes.elastic_BAG is not None:
        if grid is None:
            still_BA = torch.ones(changes.elastic_BAG.shape[:2])
            grid = _affine_grid(_theta(torch.diag_embed(still_BA), still_BA * 0), size, device)
        grid = grid + _elastic_shift(changes.elastic_BAG, size, device)
    if changes.angle_B is None:
        return grid
    theta = _affine(changes, size)
    if grid is None:
        return _affine_grid(theta, size, device)
    theta = put(theta, device).view(-1, *[1] * (len(size) - 1), *theta.shape[1:])
    return grid @ theta[..., :-1].mT + theta[..., -1].unsqueeze(-2)


def _theta(matrix_BAA: Tensor, shift_BA: Tensor) -> Tensor:
    """Return an affine map, a row for each coordinate: matrix and shift side by side."""
    return torch.cat([matrix_BAA, shift_BA[:, :, None]], dim=2)


def _affine(changes: Changes, size: Sequence[int]) -> Tensor:
    """Return the affine map's rows; it turns and zooms pixels, not the square that coordinates make of an oblong."""
    assert changes.angle_B is not None and changes.zoom_B is not None and changes.shift_BA is not None  # noqa: PT018
    shift_BA = 2 * changes.shift_BA
    if changes.turn_B33 is not None:
        return _theta(changes.turn_B33 / changes.zoom_B[:, None, None], shift_BA)
    aspect = size[0] / size[1]
    cos, sin = torch.cos(changes.angle_B) / changes.zoom_B, torch.sin(changes.angle_B) / changes.zoom_B
    return _theta(torch.stack([cos, -sin * aspect, sin / aspect, cos], dim=1).view(-1, 2, 2), shift_BA)


def _affine_grid(theta: Tensor, size: Sequence[int], device: torch.device) -> Tensor:
    """Return the grid of an affine map."""
    return F.affine_grid(put(theta, device), [len(theta), 1, *size], align_corners=False)


def _elastic_shift(shift_BAG: Tensor, size: Sequence[int], device: torch.device) -> Tensor:
    """Enlarge random shifts of a coarse grid bicubically (Ronneberger et al. 2015, section 3.1); in coordinates.

    Those of volumes are enlarged linearly: torch has no cubic form of it.
    """
    unit = torch.tensor([2 / side for side in reversed(size)]).view(1, -1, *[1] * len(size))
    mode = "bicubic" if len(size) == 2 else "trilinear"
    fine = F.interpolate(put(shift_BAG * unit, device), size=tuple(size), mode=mode, align_corners=True)
    return fine.movedim(1, -1)


def _sample(map_BCHW: Tensor, grid_BHW2: Tensor) -> Tensor:
    # What a warp moves in from outside is mirrored: black corners would be a class of their own on stained tissue.
    """Sample a map where a grid looks; what lies outside is mirrored."""
    mode = "bilinear" if map_BCHW.is_floating_point() else "nearest"
    sampled = F.grid_sample(map_BCHW.float(), grid_BHW2, mode, padding_mode="reflection", align_corners=False)
    # Bilinear weights can sum to a little more than 1.
    return sampled.clamp(0, 1) if map_BCHW.is_floating_point() else sampled.to(map_BCHW.dtype)
