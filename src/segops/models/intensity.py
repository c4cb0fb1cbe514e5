"""Intensity as foreground's probability: what a candidate is worth that learned nothing.

With `inference.postprocess.threshold: otsu` it is the threshold of Otsu 1979, "A Threshold Selection Method from
Gray-Level Histograms", of each image, and with `inference.instances` a watershed behind it. Axes: B batch, C channels,
H height, W width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from segops.models.blocks import SegmentationNetwork

_SMALLEST = 1e-6  # a probability is so far from 0 and 1
_LEVELS = 32  # among which the minority's threshold is chosen; the mask's own is `inference.cleaning.otsu`


class Intensity(SegmentationNetwork):
    """The mean of an image's channels, from its darkest pixel, 0, to its brightest, 1, or the other way round.

    The buffer `key` is the candidate's key, of its params, data and code: what trains nothing has other weights where
    anything in it is another, so that the registry takes it for another version.
    """

    multiple = 1

    def __init__(self, channels: int, logits: int, foreground: Literal["bright", "dark", "minority"]) -> None:
        super().__init__()
        del channels  # any number of them
        if logits != 1:
            raise ValueError("intensity tells foreground from background alone; take a network for several classes")
        self.foreground = foreground
        self.shown = nn.Identity()
        self.register_buffer("key", torch.zeros(32, dtype=torch.uint8))

    @property
    def class_channels(self) -> int:
        """The number of logits that classes have."""
        return 1

    def lowest(self) -> nn.Module:
        """Return the module that passes the probability on: there is no feature map."""
        return self.shown

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Return logits_B1HW."""
        grey_B1HW = image_BCHW.mean(dim=1, keepdim=True)
        low, high = grey_B1HW.amin(dim=(2, 3), keepdim=True), grey_B1HW.amax(dim=(2, 3), keepdim=True)
        scaled_B1HW = (grey_B1HW - low) / (high - low).clamp_min(_SMALLEST)
        if self.foreground == "dark":
            scaled_B1HW = 1 - scaled_B1HW
        if self.foreground == "minority":
            scaled_B1HW = torch.where(bright_share(scaled_B1HW) > 0.5, 1 - scaled_B1HW, scaled_B1HW)
        logits: Tensor = torch.logit(self.shown(scaled_B1HW), eps=_SMALLEST)
        return logits


def bright_share(scaled_B1HW: Tensor) -> Tensor:
    """Return the share of pixels above Otsu's threshold: share_B111. Values lie in [0, 1]."""
    mean_B111 = scaled_B1HW.mean(dim=(2, 3), keepdim=True)
    best_B111, chosen_B111 = torch.zeros_like(mean_B111), torch.zeros_like(mean_B111)
    for level in range(1, _LEVELS):
        above_B1HW = (scaled_B1HW > level / _LEVELS).to(scaled_B1HW.dtype)
        share_B111 = above_B1HW.mean(dim=(2, 3), keepdim=True)
        sum_B111 = (scaled_B1HW * above_B1HW).mean(dim=(2, 3), keepdim=True)
        # The variance between the two parts, w0 w1 (m1 - m0)^2, from the sums.
        between_B111 = (sum_B111 - mean_B111 * share_B111) ** 2 / (share_B111 * (1 - share_B111)).clamp_min(_SMALLEST)
        chosen_B111 = torch.where(between_B111 > best_B111, share_B111, chosen_B111)
        best_B111 = torch.maximum(best_B111, between_B111)
    return chosen_B111
