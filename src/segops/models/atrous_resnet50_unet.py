"""U-Net with a ResNet50 encoder whose skips pass atrous blocks.

After "U-Net with ResNet50 Encoder and Atrous Convolutions" (Cross-Building-Segmentation: the README of
github.com/Wodlfvllf has the figures, Scripts/model.py of github.com/shamsi-2003 the layers): a bridge of two 3x3
convolutions with batch norm and ReLU; five decoder levels of 1024, 512, 256, 128 and 64 channels, each a 2x2 transposed
convolution, concatenation and the same two convolutions; a skip from each encoder stage, in the first four decoder
levels through an atrous block of the stage's 1024, 512, 256 or 64 channels, in the last the image itself; a 1x1
output. An atrous block (after Chen et al. 2017, "DeepLab") is convolutions with dilations 1, 6, 12, 18 and kernels 1,
3, 3, 3 to half the channels and a 3x3 max pooling side by side, batch norm, 1x1 convolution, batch norm, ReLU. 'Same'
padding throughout.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segops.models.blocks import Backbone, SegmentationNetwork, UpBlock, conv_bn_relu
from segops.models.resnet import ResNet50

_DILATIONS = (1, 6, 12, 18)
_KERNELS = (1, 3, 3, 3)


class AtrousBlock(nn.Module):
    """Mixes views of a map at several scales to as many channels as the map has."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, half, kernel, padding=dilation * (kernel // 2), dilation=dilation)
            for kernel, dilation in zip(_KERNELS, _DILATIONS, strict=True)
        )
        side_by_side = len(_KERNELS) * half + channels
        self.norm = nn.BatchNorm2d(side_by_side)
        self.mix = conv_bn_relu(side_by_side, channels, kernel=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of the same shape."""
        views = [branch(x_BCHW) for branch in self.branches]
        views.append(F.max_pool2d(x_BCHW, 3, stride=1, padding=1))
        mixed: Tensor = self.mix(self.norm(torch.cat(views, dim=1)))
        return mixed


class AtrousResNet50UNet(SegmentationNetwork):
    """U-Net with a ResNet50 encoder whose skips pass atrous blocks.

    Args:
        channels: of the image.
        outputs: K, logits per pixel.
        width: channels of the encoder's first convolution; all others are multiples of it. Published weights need 64.
        stochastic_depth: of the encoder's last block.
    """

    def __init__(self, channels: int, outputs: int, *, width: int, stochastic_depth: float) -> None:
        super().__init__()
        self.multiple = 32
        self.encoder = ResNet50(channels, width, stochastic_depth)
        *skips, bottom = self.encoder.channels
        self.bridge = nn.Sequential(conv_bn_relu(bottom, bottom), conv_bn_relu(bottom, bottom))
        self.atrous = nn.ModuleList(AtrousBlock(skip) for skip in reversed(skips))
        # Up to 1/16, 1/8, 1/4, 1/2 and 1; `up` as in the source.
        plans = [
            (bottom, skips[3], 16 * width, 16 * width),
            (16 * width, skips[2], 8 * width, 8 * width),
            (8 * width, skips[1], 4 * width, 4 * width),
            (4 * width, skips[0], 2 * width, 2 * width),
            (2 * width, channels, width, width),
        ]
        self.decoder = nn.ModuleList(UpBlock(low, skip, wide, up=up) for low, skip, wide, up in plans)
        self.output = nn.Conv2d(width, outputs, 1)

    def backbone(self) -> Backbone:
        """Return the encoder, ResNet50."""
        return self.encoder

    def lowest(self) -> nn.Module:
        """Return the bridge."""
        return self.bridge

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Turn normalized images into logits_BKHW of the same height and width."""
        *skips, x_BCHW = self.encoder(image_BCHW)
        x_BCHW = self.bridge(x_BCHW)
        for atrous, block in zip(self.atrous, self.decoder, strict=False):
            x_BCHW = block(x_BCHW, atrous(skips.pop()))
        logits_BKHW: Tensor = self.output(self.decoder[-1](x_BCHW, image_BCHW))
        return logits_BKHW
