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


class Intensity(SegmentationNetwork):
    """The mean of an image's channels, from its darkest pixel, 0, to its brightest, 1, or the other way round."""

    multiple = 1

    def __init__(self, channels: int, logits: int, foreground: Literal["bright", "dark", "minority"]) -> None:
        super().__init__()
        del channels  # any number of them
        if logits != 1:
            raise ValueError("intensity tells foreground from background alone; take a network for several classes")
        self.foreground = foreground
        self.shown = nn.Identity()

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
            bright_ground = scaled_B1HW.mean(dim=(2, 3), keepdim=True) > 0.5
            scaled_B1HW = torch.where(bright_ground, 1 - scaled_B1HW, scaled_B1HW)
        logits: Tensor = torch.logit(self.shown(scaled_B1HW), eps=_SMALLEST)
        return logits
