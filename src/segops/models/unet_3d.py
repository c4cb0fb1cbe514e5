"""3D U-Net (Çiçek et al. 2016, figure 2), with same padding, and strides and kernels by axis (`plan_levels`).

Two 3x3x3 convolutions with batch norm a level, the second with twice the first's channels: 32, 64; 64, 128; 128, 256;
256, 512. Max poolings down, transposed convolutions that keep the channels up. With three channels and three classes
19,069,955 parameters, as the paper says, beside the scales and shifts of batch norm and the biases of the transposed
convolutions.

Axes: B batch, C channels, D depth, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segops.models.blocks import SegmentationNetwork, conv_layers, convolution, up_convolution
from segops.params.levels import Level


class UNet3D(SegmentationNetwork):
    """3D U-Net.

    Args:
        channels: of the volume.
        outputs: K, logits per voxel.
        base_filters: channels of the first convolution; each of `depth` poolings doubles them.
        depth: number of poolings.
        batch_norm: after each convolution.
        levels: depth + 1 of them.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        base_filters: int,
        depth: int,
        batch_norm: bool,
        levels: Sequence[Level],
    ) -> None:
        super().__init__()
        self.levels = levels
        self.multiple = max(self.multiples)
        halves = [base_filters * 2**level for level in range(depth + 1)]
        above = [channels, *(2 * half for half in halves)]
        self.encoder = nn.ModuleList(
            conv_layers((inputs, half, 2 * half), level.kernel, norm=batch_norm)
            for inputs, half, level in zip(above, halves, levels, strict=False)
        )
        self.up = nn.ModuleList(
            up_convolution(4 * half, 4 * half, level.stride)
            for half, level in zip(halves[-2::-1], levels[:0:-1], strict=True)
        )
        self.decoder = nn.ModuleList(
            conv_layers((6 * half, 2 * half, 2 * half), level.kernel, norm=batch_norm)
            for half, level in zip(halves[-2::-1], levels[-2::-1], strict=True)
        )
        self.output = convolution(2 * base_filters, outputs, (1, 1, 1))

    def lowest(self) -> nn.Module:
        """Return the encoder's last level."""
        return self.encoder[-1]

    def forward(self, image_BCDHW: Tensor) -> Tensor:
        """Turn normalized volumes into logits_BKDHW of the same size."""
        assert self.levels is not None
        x_BCDHW, skips = image_BCDHW, list[Tensor]()
        for layers, level in zip(self.encoder, self.levels, strict=True):
            x_BCDHW = layers(F.max_pool3d(x_BCDHW, level.stride) if skips else x_BCDHW)
            skips.append(x_BCDHW)
        skips.pop()
        for up, layers in zip(self.up, self.decoder, strict=True):
            x_BCDHW = layers(torch.cat([up(x_BCDHW), skips.pop()], dim=1))
        logits_BKDHW: Tensor = self.output(x_BCDHW)
        return logits_BKDHW
