"""U-Net with an EfficientNet encoder (Tan and Le 2019, tables 1 and 2), with torchvision's names.

The encoder is torchvision's features.0 to features.7 (B0: 3,595,388 parameters); the 1x1 convolution to 1,280 channels
behind them belongs to classification. Skips are the last maps of 1/2, 1/4, 1/8 and 1/16 of the size; full size has
none. Decoder levels are a 2x2 transposed convolution, concatenation and two 3x3 convolutions with batch norm.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor, nn

from segops.models.blocks import Backbone, SegmentationNetwork, UpBlock, double_conv, skip_branch

Variant = Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"]


class Stage(NamedTuple):
    """A row of table 1: expansion, kernel, stride of the first block, channels and number of blocks."""

    expand: int
    kernel: int
    stride: int
    outputs: int
    blocks: int


# Table 1; features.0 is the stem with 32 channels.
_STEM = 32
STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
MAPS = (1, 2, 3, 5, 7)  # features whose outputs are the last of 1/2, 1/4, 1/8, 1/16, 1/32
# Width and depth by variant, as torchvision has them.
SCALES: dict[Variant, tuple[float, float]] = {
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "b4": (1.4, 1.8),
    "b5": (1.6, 2.2),
    "b6": (1.8, 2.6),
    "b7": (2.0, 3.1),
}
_OTHER_NORM: tuple[Variant, ...] = ("b5", "b6", "b7")  # whose published weights have TensorFlow's batch norm


def eighths(channels: float) -> int:
    """Return the nearest multiple of 8 that is at least 90 % of `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class Norm(NamedTuple):
    """Builds batch norms of these constants."""

    eps: float
    momentum: float

    def __call__(self, channels: int) -> nn.BatchNorm2d:
        """Return a norm of so many channels."""
        return nn.BatchNorm2d(channels, eps=self.eps, momentum=self.momentum)


def _conv(
    inputs: int, outputs: int, kernel: int, norm: Norm, *, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
    """Build a convolution without bias, its norm, and SiLU where it is active."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    layers: list[nn.Module] = [conv, norm(outputs)]
    return nn.Sequential(*layers, nn.SiLU(inplace=True)) if active else nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Weighs each channel by a factor in 0..1 that follows from all channels' means (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of the same shape."""
        inner = nn.functional.silu(self.fc1(x_BCHW.mean(dim=(2, 3), keepdim=True)))
        factor: Tensor = self.fc2(inner).sigmoid()
        return x_BCHW * factor


class MBConv(nn.Module):
    """Mobile inverted bottleneck: 1x1 expansion, depthwise convolution, squeeze-and-excitation, 1x1 projection.

    A block that keeps the shape is residual; while training, `drop` is the share of images that skip its branch
    (stochastic depth, Huang et al. 2016).
    """

    def __init__(self, inputs: int, stage: Stage, norm: Norm, *, first: bool, drop: float) -> None:
        super().__init__()
        stride = stage.stride if first else 1
        wide = inputs * stage.expand
        layers: list[nn.Module] = [] if stage.expand == 1 else [_conv(inputs, wide, 1, norm)]
        layers.append(_conv(wide, wide, stage.kernel, norm, stride=stride, groups=wide))
        layers.append(SqueezeExcitation(wide, max(1, inputs // 4)))
        layers.append(_conv(wide, stage.outputs, 1, norm, active=False))
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == stage.outputs
        self.drop = drop

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of the stage's channels, at 1 / stride of the height and width."""
        branch_BCHW: Tensor = self.block(x_BCHW)
        if not self.residual:
            return branch_BCHW
        return skip_branch(branch_BCHW, self.drop, training=self.training) + x_BCHW


class EfficientNet(Backbone):
    """EfficientNet's encoder: maps of 1/2, 1/4, 1/8, 1/16 and 1/32 of the height and width.

    Args:
        channels: of the image.
        variant: b0 to b7.
        stochastic_depth: share of the last block; it grows linearly from 0 at the first.
    """

    first = "features.0.0.weight"

    def __init__(self, channels: int, variant: Variant, stochastic_depth: float) -> None:
        super().__init__()
        width, depth = SCALES[variant]
        norm = Norm(1e-3, 0.01) if variant in _OTHER_NORM else Norm(1e-5, 0.1)
        stages = [
            stage._replace(outputs=eighths(stage.outputs * width), blocks=math.ceil(stage.blocks * depth))
            for stage in STAGES
        ]
        inputs, position, blocks = eighths(_STEM * width), 0, sum(stage.blocks for stage in stages)
        self.features = nn.Sequential(_conv(channels, inputs, 3, norm, stride=2))
        for stage in stages:
            layer = nn.Sequential()
            for index in range(stage.blocks):
                drop = stochastic_depth * position / blocks
                layer.append(MBConv(inputs, stage, norm, first=index == 0, drop=drop))
                inputs, position = stage.outputs, position + 1
            self.features.append(layer)
        self.channels = tuple(stages[index - 1].outputs for index in MAPS)

    def stages(self) -> list[nn.Module]:
        """Return features.0 to features.7."""
        return list(self.features)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return five feature maps, finest first."""
        x_BCHW, maps = image_BCHW, []
        for index, stage in enumerate(self.features):
            x_BCHW = stage(x_BCHW)
            if index in MAPS:
                maps.append(x_BCHW)
        return maps


class EfficientNetUNet(SegmentationNetwork):
    """U-Net with an EfficientNet encoder, whose maps are 1/2, 1/4, 1/8, 1/16 and 1/32 of the height and width.

    Args:
        channels: of the image.
        outputs: K, logits per pixel.
        variant: of the encoder.
        decoder_filters: channels of the five decoder levels, lowest first.
        stochastic_depth: of the encoder.
        encoder: of its kind.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        variant: str,
        decoder_filters: tuple[int, ...],
        stochastic_depth: float,
        encoder: Callable[..., Backbone] = EfficientNet,
    ) -> None:
        super().__init__()
        self.multiple = 32
        self.encoder = encoder(channels, variant, stochastic_depth)
        *skips, low = self.encoder.channels
        self.decoder = nn.ModuleList()
        for skip, width in zip(reversed(skips), decoder_filters, strict=False):
            self.decoder.append(UpBlock(low, skip, width, up=width))
            low = width
        last = decoder_filters[-1]
        self.last = nn.Sequential(nn.ConvTranspose2d(low, last, 2, stride=2), double_conv(last, last, batch_norm=True))
        self.output = nn.Conv2d(last, outputs, 1)

    def backbone(self) -> Backbone:
        """Return the encoder."""
        return self.encoder

    def lowest(self) -> nn.Module:
        """Return the encoder's last block."""
        return list(self.encoder.stages()[-1].children())[-1]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Turn normalized images into logits_BKHW of the same height and width."""
        *skips, x_BCHW = self.encoder(image_BCHW)
        for block in self.decoder:
            x_BCHW = block(x_BCHW, skips.pop())
        logits_BKHW: Tensor = self.output(self.last(x_BCHW))
        return logits_BKHW
