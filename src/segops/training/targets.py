"""What losses compare: targets and probabilities of a batch, and how much its pixels count.

Axes: B batch, K logits, H height, W width, and a depth D before H of volumes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segops.contracts.masks import IGNORED, is_foreground


def targets(mask_BHW: Tensor, channels: int) -> Tensor:
    """Return target_BKHW of 0 and 1: foreground (every class above 0) for a single channel, else one-hot masks.

    Of ignored pixels all targets are 0.
    """
    if channels == 1:
        foreground_BHW: Tensor = is_foreground(mask_BHW)
        return foreground_BHW.to(torch.float32)[:, None]
    index_K11 = torch.arange(channels, device=mask_BHW.device).view(-1, *[1] * (mask_BHW.dim() - 1))
    return (mask_BHW[:, None] == index_K11).to(torch.float32)


def probabilities(logits_BKHW: Tensor, mask_BHW: Tensor, sigmoid: bool) -> Tensor:
    """Return probabilities, of ignored pixels 0: with targets of 0 they are in no sum of an overlap."""
    chance_BKHW = logits_BKHW.sigmoid() if sigmoid else logits_BKHW.softmax(dim=1)
    return chance_BKHW.where(mask_BHW[:, None] != IGNORED, 0.0)


def pixel_weights(mask_BHW: Tensor) -> Tensor:
    """Return weights by which a mean over pixels is that over images of each one's mean over what isn't ignored.

    So the shares of a batch that processes have make up the batch's mean, however much each of them ignores. An image
    that is ignored as a whole counts 0. Without ignored pixels all weights are exactly 1.
    """
    scored_BHW = mask_BHW != IGNORED
    return scored_BHW * (
        scored_BHW[0].numel() / scored_BHW.sum(dim=tuple(range(1, mask_BHW.dim())), keepdim=True).clamp_min(1)
    )
