"""V-Net (Milletari, Navab and Ahmadi 2016, figure 2), with strides and kernels by axis (`plan_levels`).

Levels of 16, 32, 64, 128 and 256 channels, each 1, 2, 3, 3 and 3 convolutions of 5x5x5 beside the level's input, which
is added before the last activation; strided convolutions down, transposed ones up, with kernels as large as the stride;
PReLU by channel. The first level's input is the image, repeated to 16 channels. In the decoder a level's input is the
upsampled map beside the encoder's, so that its convolutions have twice the encoder's channels. Batch norm after each
convolution is an option, as in later implementations (MONAI's VNet).

Axes: B batch, C channels, D depth, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segops.models.blocks import SegmentationNetwork, batch_norm, convolution, up_convolution
from segops.params.levels import Level

_MOST_CONVOLUTIONS = 3


class ResidualLevel(nn.Module):
    """Convolutions beside a level's input; PReLU between them, and after the sum."""

    def __init__(self, inputs: int, outputs: int, count: int, kernel: Sequence[int], *, norm: bool) -> None:
        super().__init__()
        sides = [5 if side == 3 else side for side in kernel]
        layers: list[nn.Module] = []
        for number in range(count):
            if number:
                layers.append(nn.PReLU(outputs))
            layers.append(convolution(outputs if number else inputs, outputs, sides))
            if norm:
                layers.append(batch_norm(outputs, kernel))
        self.layers = nn.Sequential(*layers)
        self.activation = nn.PReLU(outputs)
        self.outputs = outputs

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels; an input of fewer is added as often as it fits into them."""
        channels = x_BCDHW.shape[1]
        beside = x_BCDHW
        if channels != self.outputs:
            beside = x_BCDHW.index_select(1, torch.arange(self.outputs, device=x_BCDHW.device) % channels)
        residual: Tensor = self.activation(self.layers(x_BCDHW) + beside)
        return residual


class VNet(SegmentationNetwork):
    """V-Net.

    Args:
        channels: of the volume.
        outputs: K, logits per voxel.
        base_filters: channels of the first level; each of `depth` strided convolutions doubles them.
        depth: number of strided convolutions.
        batch_norm: after each 5x5x5 convolution.
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
        widths = [base_filters * 2**level for level in range(depth + 1)]
        counts = [min(level + 1, _MOST_CONVOLUTIONS) for level in range(depth + 1)]
        self.down = nn.ModuleList(
            nn.Sequential(_down(width // 2, width, level.stride), nn.PReLU(width))
            for width, level in zip(widths[1:], levels[1:], strict=True)
        )
        self.encoder = nn.ModuleList(
            ResidualLevel(channels if number == 0 else width, width, count, level.kernel, norm=batch_norm)
            for number, (width, count, level) in enumerate(zip(widths, counts, levels, strict=True))
        )
        # The lowest level's map has its channels, a decoder level's twice those of the encoder at that size.
        lows = [widths[-1], *(2 * width for width in widths[-2:0:-1])]
        self.up = nn.ModuleList(
            nn.Sequential(up_convolution(low, width, level.stride), nn.PReLU(width))
            for low, width, level in zip(lows, widths[-2::-1], levels[:0:-1], strict=True)
        )
        self.decoder = nn.ModuleList(
            ResidualLevel(2 * width, 2 * width, count, level.kernel, norm=batch_norm)
            for width, count, level in zip(widths[-2::-1], counts[-2::-1], levels[-2::-1], strict=True)
        )
        self.output = convolution(2 * base_filters, outputs, (1, 1, 1))

    def lowest(self) -> nn.Module:
        """Return the encoder's last level."""
        return self.encoder[-1]

    def forward(self, image_BCDHW: Tensor) -> Tensor:
        """Turn normalized volumes into logits_BKDHW of the same size."""
        x_BCDHW = self.encoder[0](image_BCDHW)
        skips = []
        for down, level in zip(self.down, self.encoder[1:], strict=True):
            skips.append(x_BCDHW)
            x_BCDHW = level(down(x_BCDHW))
        for up, level in zip(self.up, self.decoder, strict=True):
            x_BCDHW = level(torch.cat([up(x_BCDHW), skips.pop()], dim=1))
        logits_BKDHW: Tensor = self.output(x_BCDHW)
        return logits_BKDHW


def _down(inputs: int, outputs: int, stride: Sequence[int]) -> nn.Module:
    """Build a convolution that is as large as its stride, without padding."""
    return nn.Conv3d(inputs, outputs, tuple(stride), tuple(stride))  # type: ignore[arg-type]
