"""ResUNet: a U-Net of pre-activation residual blocks (Zhang, Liu and Wang 2018, "Road Extraction by Deep Residual
U-Net", in the deeper form with a stem, four strided blocks and a bridge).

`resunet_bn` is the same network with batch norm on every shortcut: for grey images 4,715,441 parameters and 7,296
running statistics.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from segops.models.blocks import ConvBlock, DecoderBlock, ResidualBlock, SegmentationNetwork, Shortcut, linear_decay


class Stem(nn.Module):
    """A 3x3 convolution and a `ConvBlock`, beside a shortcut that always has batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.block = ConvBlock(outputs, outputs)
        self.shortcut = Shortcut(inputs, outputs, norm=True)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels at full height and width."""
        stem: Tensor = self.block(self.conv(image_BCHW)) + self.shortcut(image_BCHW)
        return stem


class ResUNet(SegmentationNetwork):
    """ResUNet.

    Args:
        channels: of the image.
        outputs: K, logits per pixel.
        filters: channels by level, the stem first; n filters halve height and width n - 1 times.
        shortcut_bn: batch norm on every 1x1 shortcut; false: on the stem's alone.
        stochastic_depth: of the decoder's last block; the stem and the bridge skip nothing.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        filters: tuple[int, ...],
        *,
        shortcut_bn: bool,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(filters) - 1)
        bottom = filters[-1]
        skipped = iter(linear_decay(stochastic_depth, 2 * (len(filters) - 1)))
        self.stem = Stem(channels, filters[0])
        self.encoder = nn.ModuleList(
            ResidualBlock(above, below, stride=2, shortcut_bn=shortcut_bn, skipped=next(skipped))
            for above, below in pairwise(filters)
        )
        self.bridge = nn.Sequential(ConvBlock(bottom, bottom), ConvBlock(bottom, bottom))
        # The decoder's widths are the encoder's, a level late: 256 ++ e4 -> 256, 256 ++ e3 -> 128, ...
        lows = (bottom, *reversed(filters[1:]))
        self.decoder = nn.ModuleList(
            DecoderBlock(low, skip, width, shortcut_bn=shortcut_bn, skipped=next(skipped))
            for low, skip, width in zip(lows, reversed(filters[:-1]), reversed(filters[1:]), strict=False)
        )
        self.output = nn.Conv2d(filters[1], outputs, 1)

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
            assert isinstance(block, DecoderBlock)
            x_BCHW = block.merge(x_BCHW, skips.pop())
        logits_BKHW: Tensor = self.output(x_BCHW)
        return logits_BKHW
