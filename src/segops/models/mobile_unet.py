"""Mobile U-Net: the U-Net of Ronneberger et al. 2015 with MobileNet's convolutions (Howard et al. 2017).

Every 3x3 convolution but the first is depthwise separable: 3x3 by channel, batch norm, ReLU, 1x1 across channels, batch
norm, ReLU (section 3.1, figure 3), without biases; the width multiplier thins all levels (section 3.3). Upsampling is
by nearest neighbour, without parameters. No paper fixes this network; the choice of the U-Net's levels is ours.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segops.models.blocks import SegmentationNetwork, upsample


def _conv_bn_relu(inputs: int, outputs: int, kernel: int, groups: int = 1) -> list[nn.Module]:
    """Build a convolution without bias, batch norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def separable_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Build a 3x3 convolution by channel, then 1x1 across channels, each with batch norm and ReLU."""
    return nn.Sequential(*_conv_bn_relu(inputs, inputs, 3, groups=inputs), *_conv_bn_relu(inputs, outputs, 1))


class MobileUNet(SegmentationNetwork):
    """Mobile U-Net.

    Args:
        channels: of the image.
        outputs: K, logits per pixel.
        base_filters: channels of the first level before the multiplier; each of `depth` poolings doubles them.
        depth: number of 2x2 max poolings.
        width: multiplier of every level's channels.
    """

    def __init__(self, channels: int, outputs: int, *, base_filters: int, depth: int, width: float) -> None:
        super().__init__()
        self.multiple = 2**depth
        widths = [max(1, round(base_filters * 2**level * width)) for level in range(depth + 1)]
        first = nn.Sequential(*_conv_bn_relu(channels, widths[0], 3), separable_conv(widths[0], widths[0]))
        self.encoder = nn.ModuleList([first])
        for above, below in pairwise(widths):
            self.encoder.append(nn.Sequential(separable_conv(above, below), separable_conv(below, below)))
        self.decoder = nn.ModuleList(
            nn.Sequential(separable_conv(low + skip, skip), separable_conv(skip, skip))
            for low, skip in pairwise(reversed(widths))
        )
        self.output = nn.Conv2d(widths[0], outputs, 1)

    def lowest(self) -> nn.Module:
        """Return the encoder's last level."""
        return self.encoder[-1]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Turn normalized images into logits_BKHW of the same height and width."""
        x_BCHW, skips = image_BCHW, []
        for level, convs in enumerate(self.encoder):
            x_BCHW = convs(x_BCHW if level == 0 else F.max_pool2d(x_BCHW, 2))
            skips.append(x_BCHW)
        skips.pop()
        for convs in self.decoder:
            x_BCHW = convs(torch.cat([upsample(x_BCHW), skips.pop()], dim=1))
        logits_BKHW: Tensor = self.output(x_BCHW)
        return logits_BKHW
