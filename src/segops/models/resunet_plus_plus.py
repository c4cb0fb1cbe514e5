"""ResUNet++ (Jha et al. 2019, "ResUNet++: An Advanced Architecture for Medical Image Segmentation", section III).

The paper draws the network (figure 2) and leaves numbers to its public code, github.com/DebeshJha/ResUNetPlusPlus,
m_resunet.py, which this follows: channels 16 to 256, squeeze-and-excitation with ratio 8 and without biases after the
stem and after each residual block, those of the decoder too; batch norm on every shortcut; four 3x3 convolutions with
dilations 1, 6, 12 and 18, each with batch norm, summed, then a 1x1 convolution, both as bridge and before the output.
Keras pads strided convolutions at the far side, torch at both.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segops.models.blocks import FLAT, ConvBlock, ResidualBlock, SegmentationNetwork, linear_decay, upsample
from segops.models.resunet import Stem


class SqueezeExcitation(nn.Module):
    """Weighs each channel by a factor in 0..1 that follows from all channels' means (Hu et al. 2018)."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        squeezed = max(1, channels // ratio)
        self.squeeze = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.excite = nn.Conv2d(squeezed, channels, 1, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of the same shape."""
        mean_BC11 = x_BCHW.mean(dim=(2, 3), keepdim=True)
        factor: Tensor = self.excite(F.relu(self.squeeze(mean_BC11))).sigmoid()
        return x_BCHW * factor


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling: dilated 3x3 convolutions side by side, summed, and a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=rate, dilation=rate), nn.BatchNorm2d(outputs))
            for rate in rates
        )
        self.mix = nn.Conv2d(outputs, outputs, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels."""
        mixed: Tensor = self.mix(torch.stack([branch(x_BCHW) for branch in self.branches]).sum(dim=0))
        return mixed


class Attention(nn.Module):
    """Weighs the decoder's map by what it and the encoder's skip, pooled to its size, have in common."""

    def __init__(self, low: int, skip: int) -> None:
        super().__init__()
        self.skip = ConvBlock(skip, low)
        self.low = ConvBlock(low, low)
        self.weigh = ConvBlock(low, low)

    def forward(self, low_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        """Return the weighed map, of the shape of `low`."""
        weight: Tensor = self.weigh(F.max_pool2d(self.skip(skip_BCHW), 2) + self.low(low_BCHW))
        return weight * low_BCHW


class Decoder(nn.Module):
    """Attention, upsampling, concatenation with the skip, a residual block and squeeze-and-excitation."""

    def __init__(self, low: int, skip: int, outputs: int, se_ratio: int, skipped: float) -> None:
        super().__init__()
        self.attention = Attention(low, skip)
        self.block = ResidualBlock(low + skip, outputs, shortcut_bn=True, skipped=skipped)
        self.excitation = SqueezeExcitation(outputs, se_ratio)

    def forward(self, low_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels, at the skip's height and width."""
        attended = upsample(self.attention(low_BCHW, skip_BCHW))
        decoded: Tensor = self.excitation(self.block(torch.cat([attended, skip_BCHW], dim=1)))
        return decoded


class ResUNetPlusPlus(SegmentationNetwork):
    """ResUNet++.

    Args:
        channels: of the image.
        outputs: K, logits per pixel.
        filters: channels by level, the stem first, the bridge's last; n filters halve height and width n - 2 times.
        se_ratio: channels over squeezed channels.
        aspp_rates: dilations of both pyramids.
        stochastic_depth: of the decoder's last residual block; the stem skips nothing.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        filters: tuple[int, ...],
        se_ratio: int,
        aspp_rates: tuple[int, ...],
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        encoder, bridge = filters[:-1], filters[-1]
        self.multiple = 2 ** (len(encoder) - 1)
        skipped = iter(linear_decay(stochastic_depth, 2 * (len(encoder) - 1)))
        self.stem = nn.Sequential(Stem(channels, encoder[0], FLAT), SqueezeExcitation(encoder[0], se_ratio))
        self.encoder = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(above, below, stride=2, shortcut_bn=True, skipped=next(skipped)),
                SqueezeExcitation(below, se_ratio),
            )
            for above, below in pairwise(encoder)
        )
        self.bridge = AtrousPyramid(encoder[-1], bridge, aspp_rates)
        lows = (bridge, *reversed(encoder[1:]))
        self.decoder = nn.ModuleList(
            Decoder(low, skip, width, se_ratio, next(skipped))
            for low, skip, width in zip(lows, reversed(encoder[:-1]), reversed(encoder[1:]), strict=False)
        )
        self.pyramid = AtrousPyramid(encoder[1], encoder[0], aspp_rates)
        self.output = nn.Conv2d(encoder[0], outputs, 1)

    def lowest(self) -> nn.Module:
        """Return the bridge."""
        return self.bridge

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Turn normalized images into logits_BKHW of the same height and width."""
        x_BCHW = self.stem(image_BCHW)
        skips = []
        for block in self.encoder:
            skips.append(x_BCHW)
            x_BCHW = block(x_BCHW)
        x_BCHW = self.bridge(x_BCHW)
        for block in self.decoder:
            x_BCHW = block(x_BCHW, skips.pop())
        logits_BKHW: Tensor = self.output(self.pyramid(x_BCHW))
        return logits_BKHW
