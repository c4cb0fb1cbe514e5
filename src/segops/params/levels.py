"""Plans where a network for volumes halves an axis, and where its kernels span it: nnU-Net's rule.

Axes are in the order of an array's, depth first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_SMALLEST_SIDE = 4  # of a feature map; nnU-Net's `min_feature_map_size`
_MUCH_COARSER = 2  # times the finest spacing


class Level(NamedTuple):
    """A resolution of a network.

    Attributes:
        stride: 2 along the axes that are halved on the way down to it, 1 along the others.
        kernel: 3 along the axes that its convolutions span, 1 along those that are still much coarser than the finest.
    """

    stride: tuple[int, ...]
    kernel: tuple[int, ...]


def plan_levels(size: Sequence[int], spacing_mm: Sequence[float] | None, count: int) -> list[Level]:
    """Plan `count` resolutions for patches of a size at a spacing (Isensee et al. 2021, online methods).

    An axis is halved while it keeps 4 voxels and isn't at least twice as coarse as the finest one; a kernel spans an
    axis from the level on at which that is less than twice as coarse, at the lowest level always.

    Args:
        size: voxels of a patch.
        spacing_mm: of its voxels; None: the same along all axes.
        count: of levels, the first at full size.

    Raises: ValueError where the patch is too small to be halved so often.
    """
    sides, spacing = list(size), list(spacing_mm or (1.0,) * len(size))
    stride, kernel, levels = (1,) * len(size), [1] * len(size), list[Level]()
    for number in range(count):
        if number:
            stride = _halved(sides, spacing)
            if max(stride) == 1:
                raise ValueError(
                    f"a network of {count} levels halves its patches {count - 1} times, those of "
                    f"{'x'.join(map(str, size))} can be halved {number - 1} times; raise input.size, or lower the "
                    "model's depth or number of filters"
                )
            sides = [-(-side // factor) for side, factor in zip(sides, stride, strict=True)]
            spacing = [step * factor for step, factor in zip(spacing, stride, strict=True)]
        kernel = [3 if step < _MUCH_COARSER * min(spacing) else old for step, old in zip(spacing, kernel, strict=True)]
        levels.append(Level(stride, tuple(kernel)))
    return [*levels[:-1], Level(stride, (3,) * len(size))]


def _halved(sides: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
    """Return the strides to the next level: 2 along the axes that can be halved and are no coarser than others."""
    large = [side >= 2 * _SMALLEST_SIDE for side in sides]
    finest = min((step for step, able in zip(spacing, large, strict=True) if able), default=0.0)
    return tuple(2 if able and step < _MUCH_COARSER * finest else 1 for step, able in zip(spacing, large, strict=True))
