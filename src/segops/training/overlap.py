"""Losses of overlap: Dice (Milletari et al. 2016) and Tversky (Salehi et al. 2017), as MONAI has them.

MONAI itself isn't imported for these: its import takes as long as an epoch of a small training.

Axes: B batch, K channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor


def dice_loss(chance_BKHW: Tensor, target_BKHW: Tensor, *, squared: bool, whole_batch: bool, smooth: float) -> Tensor:
    """Compute 1 - (2 overlap + smooth) / (sizes of both + smooth), averaged over channels and images.

    Args:
        target_BKHW: 0 or 1.
        squared: sizes are sums of squares.
        whole_batch: one value a channel, of all pixels of the batch.
    """
    axes = _axes(chance_BKHW, whole_batch)
    overlap = (chance_BKHW * target_BKHW).sum(dim=axes)
    sizes = (chance_BKHW.square() if squared else chance_BKHW).sum(dim=axes) + target_BKHW.sum(dim=axes)
    return (1 - (2 * overlap + smooth) / (sizes + smooth)).mean()


def tversky_loss(
    chance_BKHW: Tensor, target_BKHW: Tensor, *, alpha: float, beta: float, whole_batch: bool, smooth: float
) -> Tensor:
    """Compute 1 - (overlap + smooth) / (overlap + alpha false positives + beta false negatives + smooth), averaged.

    Args:
        target_BKHW: 0 or 1.
        whole_batch: one value a channel, of all pixels of the batch.
    """
    axes = _axes(chance_BKHW, whole_batch)
    overlap = (chance_BKHW * target_BKHW).sum(dim=axes)
    false_positive = (chance_BKHW * (1 - target_BKHW)).sum(dim=axes)
    false_negative = ((1 - chance_BKHW) * target_BKHW).sum(dim=axes)
    denominator = overlap + alpha * false_positive + beta * false_negative + smooth
    return (1 - (overlap + smooth) / denominator).mean()


def _axes(chance_BKHW: Tensor, whole_batch: bool) -> list[int]:
    """Return the axes that are summed: space, and the batch where it counts as a whole."""
    space = list(range(2, chance_BKHW.ndim))
    return [0, *space] if whole_batch else space
