"""Attention U-Net (Oktay et al. 2018, "Attention U-Net: Learning Where to Look for the Pancreas", section 2).

A gate on every skip but the first, whose features are too near the image (section 2.2), with the coarser decoder map as
gating signal; deep supervision makes each level's map speak for its scale. The gate is that of the public code
(github.com/ozan-oktay/Attention-Gated-Networks, grid_attention_layer.py, `concatenation`): the skip by a 2x2
convolution of stride 2 without bias, the signal by a 1x1 convolution, both to the skip's channels; sum, ReLU, 1x1 to a
single channel, sigmoid, bilinear upsampling, product with the skip, 1x1 convolution, batch norm. The paper's networks
are 3D; levels and blocks here are those of the 2D U-Net with batch norm.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from segops.models.blocks import Convolution, SegmentationNetwork, UpBlock, double_conv, head_convolutions


class AttentionGate(nn.Module):
    """Weighs each pixel of a skip by a factor in 0..1 that the coarser map decides on."""

    def __init__(self, skip: int, signal: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(skip, skip, 2, stride=2, bias=False)
        self.phi = nn.Conv2d(signal, skip, 1)
        self.psi = nn.Conv2d(skip, 1, 1)
        self.mix = nn.Sequential(nn.Conv2d(skip, skip, 1), nn.BatchNorm2d(skip))

    def forward(self, skip_BCHW: Tensor, signal_BCHW: Tensor) -> Tensor:
        """Return the weighed skip, of its shape; the signal has half its height and width."""
        factor_B1HW = self.psi(F.relu(self.theta(skip_BCHW) + self.phi(signal_BCHW))).sigmoid()
        factor_B1HW = F.interpolate(factor_B1HW, scale_factor=2.0, mode="bilinear", align_corners=False)
        mixed: Tensor = self.mix(factor_B1HW * skip_BCHW)
        return mixed


class AttentionUNet(SegmentationNetwork):
    """Attention U-Net.

    Args:
        channels: of the image.
        outputs: K, logits per pixel.
        base_filters: channels of the first level; each of `depth` poolings doubles them.
        depth: number of 2x2 max poolings.
        deep_supervision: auxiliary logits of each decoder level but the finest, by a 1x1 convolution.
    """

    def __init__(self, channels: int, outputs: int, *, base_filters: int, depth: int, deep_supervision: bool) -> None:
        super().__init__()
        self.multiple = 2**depth
        self.deep_supervision = deep_supervision
        widths = [base_filters * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            double_conv(above, width, batch_norm=True)
            for above, width in zip([channels, *widths], widths, strict=False)
        )
        upwards = list(pairwise(reversed(widths)))
        self.gates = nn.ModuleList(AttentionGate(skip, low) for low, skip in upwards[:-1])
        self.decoder = nn.ModuleList(UpBlock(low, skip, skip, up=skip) for low, skip in upwards)
        self.output = nn.Conv2d(base_filters, outputs, 1)
        # Finest first: 1/2, 1/4, ...
        supervised = widths[1:-1] if deep_supervision else []
        self.auxiliary = nn.ModuleList(nn.Conv2d(width, outputs, 1) for width in supervised)

    def lowest(self) -> nn.Module:
        """Return the encoder's last level."""
        return self.encoder[-1]

    def heads(self) -> list[Convolution]:
        """Return the output's convolution, then those of coarser levels."""
        return head_convolutions(self.output, self.auxiliary)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Turn normalized images into logits_BKHW of the same height and width."""
        logits_BKHW: Tensor = self.output(self._decoded(image_BCHW)[0])
        return logits_BKHW

    def forward_all(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return logits at the image's size, then at 1/2, 1/4, ... of it."""
        return [head(x_BCHW) for head, x_BCHW in zip(self.heads(), self._decoded(image_BCHW), strict=False)]

    def _decoded(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return the decoder's maps, finest first."""
        x_BCHW, skips = image_BCHW, []
        for level, convs in enumerate(self.encoder):
            x_BCHW = convs(x_BCHW if level == 0 else F.max_pool2d(x_BCHW, 2))
            skips.append(x_BCHW)
        skips.pop()
        maps: list[Tensor] = []
        gates: list[nn.Module | None] = [*self.gates, None]
        for gate, block in zip(gates, self.decoder, strict=True):
            skip_BCHW = skips.pop()
            x_BCHW = block(x_BCHW, skip_BCHW if gate is None else gate(skip_BCHW, x_BCHW))
            maps.insert(0, x_BCHW)
        return maps
