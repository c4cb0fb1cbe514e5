"""Predicts volumes: slice by slice with a network for images, or at the candidate's spacing with one for volumes.

Axes: B batch, C channels, K output channels, D depth, H height, W width; N slices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segops.contracts.volumes import Spacing
from segops.data.resampling import Resampling
from segops.data.volume_steps import after_steps
from segops.errors import UserError
from segops.inference.preprocess import unit_image
from segops.params.input import InputParams

Floats = npt.NDArray[np.float32]
Run = Callable[[Tensor], Tensor]

_SLICES = 8  # at a time


def volume_map(
    run: Run,
    image_DHWC: npt.NDArray[Any],
    spacing_mm: Spacing | None,
    input_params: InputParams,
    *,
    full_scale: float,
    device: torch.device,
    channels: int,
) -> Floats:
    """Return map_KDHW of what `run` makes of a volume, on the volume's own grid.

    Args:
        run: from image_BCHW or image_BCDHW, in [0, 1] or in the units of int16 and float32, to a map of that size.
        image_DHWC: the volume.
        spacing_mm: of its voxels; None: unknown.
        input_params: the candidate's.
        full_scale: the value that counts as 1.
        channels: that the program takes.

    Raises: UserError where the candidate needs the spacing and it isn't known.
    """
    if input_params.slices is not None:
        axis = input_params.slices.array_axis
        slices_NHWC = np.moveaxis(_after_steps(image_DHWC, spacing_mm, input_params), axis, 0)
        return _stacked(run, slices_NHWC, axis, full_scale, device, channels)
    given_1CDHW, resampling = given_volume(
        image_DHWC, spacing_mm, input_params, full_scale=full_scale, channels=channels
    )
    map_KDHW = _numpy(run(given_1CDHW.to(device)))
    return map_KDHW if resampling is None else resampling.back(map_KDHW)


def given_volume(
    image_DHWC: npt.NDArray[Any],
    spacing_mm: Spacing | None,
    input_params: InputParams,
    *,
    full_scale: float,
    channels: int,
) -> tuple[Tensor, Resampling | None]:
    """Return what a network for volumes is given of one, image_1CDHW, and how it was resampled; as of `volume_map`."""
    scaled_1CDHW = unit_image(_after_steps(image_DHWC, spacing_mm, input_params), full_scale, channels)
    if input_params.spacing_mm is None:
        return scaled_1CDHW, None
    if spacing_mm is None:
        raise UserError("a volume without a spacing, but the model resamples; give it volumes that say their spacing")
    resampling = Resampling.between(image_DHWC.shape[:3], spacing_mm, input_params.spacing_mm)
    resampled_DHWC = resampling.image(scaled_1CDHW[0].movedim(0, -1).numpy())
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(resampled_DHWC, -1, 0)))[None], resampling


def _after_steps(
    image_DHWC: npt.NDArray[Any], spacing_mm: Spacing | None, input_params: InputParams
) -> npt.NDArray[Any]:
    """Return a volume after the steps that change it as a whole."""
    if input_params.volume is None or not input_params.volume.change:
        return image_DHWC
    return after_steps(image_DHWC, spacing_mm, input_params.volume, "the volume")


def _stacked(
    run: Run, slices_NHWC: npt.NDArray[Any], axis: int, full_scale: float, device: torch.device, channels: int
) -> Floats:
    """Run some slices at a time, and stack their maps across `axis` of the volume."""
    maps = []
    for first in range(0, len(slices_NHWC), _SLICES):
        image_1CBHW = unit_image(slices_NHWC[first : first + _SLICES], full_scale, channels)
        maps.append(run(image_1CBHW[0].transpose(0, 1).contiguous().to(device)).cpu().numpy())
    map_NKHW = np.concatenate(maps).astype(np.float32, copy=False)
    return np.ascontiguousarray(np.moveaxis(map_NKHW.transpose(1, 0, 2, 3), 1, 1 + axis))


def _numpy(map_1KDHW: Tensor) -> Floats:
    """Return the map of a single volume as a float32 array on the CPU."""
    return np.asarray(map_1KDHW[0].cpu().numpy(), np.float32)
