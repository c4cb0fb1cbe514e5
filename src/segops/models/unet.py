"""U-Net (Ronneberger, Fischer and Brox 2015, figure 1) with same padding, so that logits have the image's size.

`unet_compact` is the same network with two poolings: 64, 128, 256 channels and, for grey images, 1,861,697 parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segops.models.blocks import SegmentationNetwork, double_conv


class UNetDecoder(nn.Module):
    """A 2x2 transposed convolution, concatenation with the skip, dropout and a double convolution."""

    def __init__(self, width: int, *, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dropout = nn.Dropout(dropout)
        self.convs = double_conv(2 * width, width, batch_norm=batch_norm)

    def forward(self, low_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        """Return a map of `width` channels, at the skip's height and width."""
        decoded: Tensor = self.convs(self.dropout(torch.cat([self.up(low_BCHW), skip_BCHW], dim=1)))
        return decoded


class UNet(SegmentationNetwork):
    """U-Net.

    Args:
        channels: of the image.
        outputs: K, logits per pixel.
        base_filters: channels of the first level; each of `depth` poolings doubles them.
        depth: number of 2x2 max poolings.
        batch_norm: after each 3x3 convolution.
        dropout_bottleneck: share of the bottleneck's values that dropout zeroes.
        dropout_decoder: the same of each decoder level's input.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        base_filters: int,
        depth: int,
        batch_norm: bool,
        dropout_bottleneck: float,
        dropout_decoder: float,
    ) -> None:
        super().__init__()
        self.multiple = 2**depth
        widths = [base_filters * 2**level for level in range(depth)]
        self.encoder = nn.ModuleList(
            double_conv(above, width, batch_norm=batch_norm)
            for above, width in zip([channels, *widths], widths, strict=False)
        )
        self.bottleneck = nn.Sequential(
            double_conv(widths[-1], 2 * widths[-1], batch_norm=batch_norm), nn.Dropout(dropout_bottleneck)
        )
        self.decoder = nn.ModuleList(
            UNetDecoder(width, batch_norm=batch_norm, dropout=dropout_decoder) for width in reversed(widths)
        )
        self.output = nn.Conv2d(base_filters, outputs, 1)

    def lowest(self) -> nn.Module:
        """Return the bottleneck."""
        return self.bottleneck

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Turn normalized images into logits_BKHW of the same height and width."""
        x_BCHW = image_BCHW
        skips = []
        for convs in self.encoder:
            x_BCHW = convs(x_BCHW)
            skips.append(x_BCHW)
            x_BCHW = F.max_pool2d(x_BCHW, 2)
        x_BCHW = self.bottleneck(x_BCHW)
        for block in self.decoder:
            x_BCHW = block(x_BCHW, skips.pop())
        logits_BKHW: Tensor = self.output(x_BCHW)
        return logits_BKHW
