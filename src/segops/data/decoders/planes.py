"""Orders the axes of a stack: its planes one after another, channels last."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def planes_of(array: np.ndarray, axes: str) -> Iterator[np.ndarray]:
    """Yield the planes of a stack, HW, or HWC where it has channels.

    Args:
        axes: a letter for each: Y, X, C or S for channels, others for slices and frames.
    """
    channel = next((axis for axis in axes if axis in "CS"), None)
    order = [axes.index(axis) for axis in axes if axis not in ("Y", "X", channel)]
    order += [axes.index(axis) for axis in ("Y", "X", *((channel,) if channel else ()))]
    shape = [array.shape[index] for index in order[-3 if channel else -2 :]]
    yield from array.transpose(order).reshape(-1, *shape)
