"""Averages a network's answers to an image's mirror images and turns: test-time augmentation.

Axes: B batch, C channels, K output channels, h, w the network's height and width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segops.params.inference import TestTimeAugmentation

Change = Callable[[Tensor], Tensor]


def views(kind: TestTimeAugmentation) -> list[tuple[bool, bool, bool]]:
    """Return which of transpose, flip down, flip right make each view; the first view is the image itself.

    `flips` are the 4 of the rectangle's symmetries (with the turn by 180 degrees), `d4` the 8 of the square's.
    """
    several = (False, True)
    transposes = several if kind == "d4" else (False,)
    flips = several if kind != "none" else (False,)
    return [(transpose, down, right) for transpose in transposes for down in flips for right in flips]


def mean_over_views(image_BChw: Tensor, predict: Change, kind: TestTimeAugmentation) -> Tensor:
    """Average `predict` over the views of an image, each answer turned back: map_BKhw.

    Args:
        predict: from image_BChw, or image_BCwh where the view is transposed, to a map of that size.
    """
    total: Tensor | None = None
    chosen = views(kind)
    for view in chosen:
        answer = _back(predict(_forth(image_BChw, *view)), *view)
        total = answer if total is None else total + answer
    assert total is not None, "the image itself is a view"
    return total / len(chosen) if len(chosen) > 1 else total


def _forth(x: Tensor, transpose: bool, down: bool, right: bool) -> Tensor:
    """Turn an image into a view."""
    flipped = _flip(x, down, right)
    return flipped.transpose(2, 3) if transpose else flipped


def _back(x: Tensor, transpose: bool, down: bool, right: bool) -> Tensor:
    """Turn a view's answer back to the image."""
    return _flip(x.transpose(2, 3) if transpose else x, down, right)


def _flip(x: Tensor, down: bool, right: bool) -> Tensor:
    """Flip a map down, right, or both."""
    axes = [axis for axis, wanted in ((2, down), (3, right)) if wanted]
    return torch.flip(x, axes) if axes else x
