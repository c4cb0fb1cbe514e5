"""Dense U-Net: the fully convolutional DenseNet (Jégou et al. 2017, "The One Hundred Layers Tiramisu", section 3).

A layer is batch norm, ReLU, 3x3 convolution to `growth_rate` channels, dropout (table 1); a dense block concatenates
what its layers add. On the way down a block's input stays in the concatenation; on the way up only the new channels of
a block are upsampled (section 3.2), by a 3x3 transposed convolution of stride 2. Published sizes (table 2, section 4):
FC-DenseNet56 (growth 12, 4 layers per block) 1.5 M parameters, 67 (growth 16, 5 layers) 3.5 M, 103 (growth 16, layers
4, 5, 7, 10, 12 and 15) 9.4 M.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segops.models.blocks import SegmentationNetwork


class DenseLayer(nn.Sequential):
    """Batch norm, ReLU, convolution and dropout."""

    def __init__(self, inputs: int, outputs: int, dropout: float, kernel: int = 3) -> None:
        super().__init__(
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2),
            nn.Dropout(dropout),
        )


class DenseBlock(nn.Module):
    """Runs layers, each on the concatenation of the block's input and of all layers before it."""

    def __init__(self, inputs: int, growth_rate: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(inputs + index * growth_rate, growth_rate, dropout) for index in range(layers)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the new channels alone: layers x growth_rate."""
        added: list[Tensor] = []
        for layer in self.layers:
            added.append(layer(torch.cat([x_BCHW, *added], dim=1)))
        return torch.cat(added, dim=1)


class DenseUNet(SegmentationNetwork):
    """Dense U-Net.

    Args:
        channels: of the image.
        outputs: K, logits per pixel.
        growth_rate: channels that each layer adds.
        layers: of each level's dense block, down and up again; as many 2x2 poolings.
        bottleneck_layers: of the dense block between them.
        stem_filters: channels of the first convolution.
        dropout: after each convolution of blocks and transitions.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        growth_rate: int,
        layers: tuple[int, ...],
        bottleneck_layers: int,
        stem_filters: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** len(layers)
        self.stem = nn.Conv2d(channels, stem_filters, 3, padding=1)
        width, skips = stem_filters, []
        self.encoder, self.transitions = nn.ModuleList(), nn.ModuleList()
        for count in layers:
            self.encoder.append(DenseBlock(width, growth_rate, count, dropout))
            width += count * growth_rate
            skips.append(width)
            self.transitions.append(DenseLayer(width, width, dropout, kernel=1))
        self.bottleneck = DenseBlock(width, growth_rate, bottleneck_layers, dropout)
        added = bottleneck_layers * growth_rate
        self.ups, self.decoder = nn.ModuleList(), nn.ModuleList()
        for count in reversed(layers):
            self.ups.append(nn.ConvTranspose2d(added, added, 3, stride=2, padding=1, output_padding=1))
            width = added + skips.pop()
            self.decoder.append(DenseBlock(width, growth_rate, count, dropout))
            added = count * growth_rate
        self.output = nn.Conv2d(width + added, outputs, 1)

    def lowest(self) -> nn.Module:
        """Return the bottleneck."""
        return self.bottleneck

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Turn normalized images into logits_BKHW of the same height and width."""
        x_BCHW = self.stem(image_BCHW)
        skips = []
        for block, transition in zip(self.encoder, self.transitions, strict=True):
            x_BCHW = torch.cat([x_BCHW, block(x_BCHW)], dim=1)
            skips.append(x_BCHW)
            x_BCHW = F.max_pool2d(transition(x_BCHW), 2)
        added_BCHW = self.bottleneck(x_BCHW)
        for up, block in zip(self.ups, self.decoder, strict=True):
            x_BCHW = torch.cat([up(added_BCHW), skips.pop()], dim=1)
            added_BCHW = block(x_BCHW)
        logits_BKHW: Tensor = self.output(torch.cat([x_BCHW, added_BCHW], dim=1))
        return logits_BKHW
