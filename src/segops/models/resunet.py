"""ResUNet: a U-Net of pre-activation residual blocks (Zhang, Liu and Wang 2018, "Road Extraction by Deep Residual
U-Net", in the deeper form with a stem, four strided blocks and a bridge).

`resunet_bn` is the same network with batch norm on every shortcut: for grey images 4,715,441 parameters and 7,296
running statistics. `resunet_3d` is the same network for volumes, with strides and kernels by axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from segops.models.blocks import (
    FLAT,
    ConvBlock,
    ResidualBlock,
    SegmentationNetwork,
    Shortcut,
    convolution,
    linear_decay,
)
from segops.models.decoder_block import DecoderBlock
from segops.params.levels import Level


class Stem(nn.Module):
    """A convolution and a `ConvBlock`, beside a shortcut that always has batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int]) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, kernel)
        self.block = ConvBlock(outputs, outputs, kernel=kernel)
        self.shortcut = Shortcut(inputs, outputs, norm=True, kernel=kernel)

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
        levels: of a network for volumes, as many as filters; None: for images.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        filters: tuple[int, ...],
        *,
        shortcut_bn: bool,
        stochastic_depth: float = 0.0,
        levels: Sequence[Level] | None = None,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.multiple = 2 ** (len(filters) - 1)
        strides = [level.stride for level in levels or ()] or [(2, 2)] * len(filters)
        kernels = [level.kernel for level in levels or ()] or [FLAT] * len(filters)
        bottom = filters[-1]
        skipped = iter(linear_decay(stochastic_depth, 2 * (len(filters) - 1)))
        self.stem = Stem(channels, filters[0], kernels[0])
        self.encoder = nn.ModuleList(
            ResidualBlock(above, below, stride, shortcut_bn=shortcut_bn, skipped=next(skipped), kernel=kernel)
            for (above, below), stride, kernel in zip(pairwise(filters), strides[1:], kernels[1:], strict=True)
        )
        self.bridge = nn.Sequential(*(ConvBlock(bottom, bottom, kernel=kernels[-1]) for _ in range(2)))
        # The decoder's widths are the encoder's, a level late: 256 ++ e4 -> 256, 256 ++ e3 -> 128, ...
        lows = (bottom, *reversed(filters[1:]))
        plans = zip(lows, reversed(filters[:-1]), reversed(filters[1:]), kernels[-2::-1], strides[:0:-1], strict=False)
        self.decoder = nn.ModuleList(
            DecoderBlock(low, skip, width, shortcut_bn=shortcut_bn, skipped=next(skipped), kernel=kernel, scale=scale)
            for low, skip, width, kernel, scale in plans
        )
        self.output = convolution(filters[1], outputs, (1,) * len(kernels[0]))

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
