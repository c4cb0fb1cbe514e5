"""Averages a network's answers to an image's mirror images and turns: test-time augmentation.

Axes: B batch, C channels, K output channels, h, w the network's height and width, of volumes d depth before them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from segops.params.inference import TestTimeAugmentation

Change = Callable[[Tensor], Tensor]


def views(kind: TestTimeAugmentation, dimensions: int = 2) -> list[tuple[bool, ...]]:
    """Return what makes each view: whether it is transposed, then whether each axis is flipped; the first is the image.

    `flips` are the 4 of the rectangle's symmetries (with the turn by 180 degrees), 8 of a block's; `d4` the 8 of the
    square's.
    """
    several = (False, True)
    transposes = several if kind == "d4" else (False,)
    flips = several if kind != "none" else (False,)
    return list(product(transposes, *[flips] * dimensions))


def mean_over_views(image_BChw: Tensor, predict: Change, kind: TestTimeAugmentation) -> Tensor:
    """Average `predict` over the views of an image, each answer turned back: map_BKhw.

    Args:
        predict: from image_BChw, or image_BCwh where the view is transposed, to a map of that size.
    """
    total: Tensor | None = None
    chosen = views(kind, image_BChw.dim() - 2)
    for view in chosen:
        answer = _back(predict(_forth(image_BChw, *view)), *view)
        total = answer if total is None else total + answer
    assert total is not None, "the image itself is a view"
    return total / len(chosen) if len(chosen) > 1 else total


def _forth(x: Tensor, transpose: bool, *flips: bool) -> Tensor:
    """Turn an image into a view."""
    flipped = _flip(x, flips)
    return flipped.transpose(-2, -1) if transpose else flipped


def _back(x: Tensor, transpose: bool, *flips: bool) -> Tensor:
    """Turn a view's answer back to the image."""
    return _flip(x.transpose(-2, -1) if transpose else x, flips)


def _flip(x: Tensor, flips: Sequence[bool]) -> Tensor:
    """Flip a map along axes, from its first side on."""
    axes = [axis for axis, wanted in enumerate(flips, start=2) if wanted]
    return torch.flip(x, axes) if axes else x
