"""Resamples volumes from one spacing to another, and maps back, as nnU-Net does.

Isensee et al. 2021, online methods; `default_resampling.py` of nnU-Net v2 is followed step by step: splines along all
axes, unless an axis is more than three times as coarse as another. Then slices are resampled within their plane, and
along that axis each takes the nearest one. Masks are resampled class by class, linearly, and a voxel is a class's from
one half on.

Axes: D depth, H height, W width, C channels or classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from segops.contracts.volumes import Spacing
from segops.data.decoders.bounds import MAX_BYTES
from segops.data.volumes.grid import words
from segops.errors import UserError
from segops.files import GIB

Floats = npt.NDArray[np.float32]

_MUCH_COARSER = 3  # nnU-Net's `ANISO_THRESHOLD`
_CUBIC, _LINEAR = 3, 1


@dataclass(frozen=True)
class Resampling:
    """From a volume's own grid to that of another spacing, and back.

    Attributes:
        native_DHW: size of the volume.
        target_DHW: its size at the other spacing, at least one voxel along each axis.
        coarse: the axis along which the nearest slice is taken; None: splines along all axes.
    """

    native_DHW: tuple[int, ...]
    target_DHW: tuple[int, ...]
    coarse: int | None

    @classmethod
    def between(cls, size_DHW: Sequence[int], spacing_mm: Spacing, target_mm: Spacing) -> Self:
        """Make the resampling of a volume of that size and spacing to a target spacing.

        Raises: UserError where the result is larger than any volume may be: mostly a header counts in another unit.
        """
        axes = zip(size_DHW, spacing_mm, target_mm, strict=True)
        target = tuple(max(1, round(side * step / other)) for side, step, other in axes)
        if 4 * math.prod(target) > MAX_BYTES:
            sizes = ["x".join(map(str, size)) for size in (size_DHW, target)]
            raise UserError(
                f"{sizes[0]} voxels of {words(spacing_mm)} become {sizes[1]} of {words(target_mm)}, over "
                f"{MAX_BYTES // GIB} GiB; correct the header's spacing, or set input.spacing_mm coarser"
            )
        return cls(tuple(size_DHW), target, _coarse_axis(spacing_mm, target_mm))

    def image(self, image_DHWC: npt.NDArray[Any]) -> Floats:
        """Resample the channels of an image by cubic splines; values keep their range."""
        return _by_channel(image_DHWC, self.target_DHW, self.coarse, _CUBIC)

    def mask(self, mask_DHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Resample class indices: a voxel is of the class that has at least half of it, the later one of two halves."""
        if self.target_DHW == self.native_DHW:
            return mask_DHW
        resampled_DHW = np.zeros(self.target_DHW, np.uint8)
        for index in np.unique(mask_DHW):
            share_DHW = _resample((mask_DHW == index).astype(np.float32), self.target_DHW, self.coarse, _LINEAR)
            resampled_DHW[share_DHW >= 0.5] = index
        return resampled_DHW

    def back(self, map_KDHW: Floats) -> Floats:
        """Resample maps at the target spacing linearly to the volume's own grid; probabilities still sum to 1."""
        native_DHWK = _by_channel(np.moveaxis(map_KDHW, 0, -1), self.native_DHW, self.coarse, _LINEAR)
        return np.ascontiguousarray(np.moveaxis(native_DHWK, -1, 0))


def _coarse_axis(spacing_mm: Spacing, target_mm: Spacing) -> int | None:
    """Return the axis that is more than three times as coarse as another, of the volume or else of the target.

    None where there is none, or where two axes are equally coarse.
    """
    for spacing in (spacing_mm, target_mm):
        if max(spacing) > _MUCH_COARSER * min(spacing):
            coarsest = [axis for axis, step in enumerate(spacing) if step == max(spacing)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def _by_channel(image_DHWC: npt.NDArray[Any], size_DHW: Sequence[int], coarse: int | None, order: int) -> Floats:
    """Resample each channel of an image by itself."""
    if tuple(size_DHW) == image_DHWC.shape[:-1]:
        return np.asarray(image_DHWC, np.float32)
    channels = [
        _resample(np.asarray(image_DHWC[..., channel], np.float32), size_DHW, coarse, order)
        for channel in range(image_DHWC.shape[-1])
    ]
    return np.stack(channels, axis=-1)


def _resample(array_DHW: Floats, size_DHW: Sequence[int], coarse: int | None, order: int) -> Floats:
    """Resample an array by splines of an order, along a coarse axis by the nearest slice."""
    from skimage.transform import resize

    def splined(array: Floats, size: Sequence[int]) -> Floats:
        if array.shape == tuple(size):
            return array
        return np.asarray(resize(array, tuple(size), order, mode="edge", anti_aliasing=False), np.float32)

    if coarse is None:
        return splined(array_DHW, size_DHW)
    plane = [side for axis, side in enumerate(size_DHW) if axis != coarse]
    slices = np.stack([splined(slice_, plane) for slice_ in np.moveaxis(array_DHW, coarse, 0)])
    centres = (np.arange(size_DHW[coarse]) + 0.5) * len(slices) / size_DHW[coarse] - 0.5
    nearest = np.clip(np.floor(centres + 0.5), 0, len(slices) - 1).astype(np.intp)
    return np.moveaxis(slices[nearest], 0, coarse)
