"""ResNet50's convolutions (He et al. 2016, "Deep Residual Learning", table 1), with torchvision's names and layers.

As there, a bottleneck's stride is at its 3x3 convolution ("ResNet v1.5"). 23,508,032 parameters.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from segops.models.blocks import Backbone, linear_decay, skip_branch

_EXPANSION = 4
_BLOCKS = (3, 4, 6, 3)


class Downsample(nn.Sequential):
    """A 1x1 convolution and batch norm of every `stride`-th pixel: a strided convolution (see `blocks.Shortcut`)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.stride = stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels, at 1 / stride of the height and width."""
        shortened: Tensor = super().forward(x_BCHW[:, :, :: self.stride, :: self.stride])
        return shortened


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions, each with batch norm, beside a shortcut.

    `skipped`: see `blocks.skip_branch`.
    """

    def __init__(self, inputs: int, width: int, stride: int, skipped: float) -> None:
        super().__init__()
        self.skipped = skipped
        outputs = width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        shortens = stride != 1 or inputs != outputs
        self.downsample = Downsample(inputs, outputs, stride) if shortens else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of 4 `width` channels, at 1 / stride of the height and width."""
        inner = F.relu(self.bn1(self.conv1(x_BCHW)), inplace=True)
        inner = F.relu(self.bn2(self.conv2(inner)), inplace=True)
        shortcut = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        branch_BCHW = skip_branch(self.bn3(self.conv3(inner)), self.skipped, training=self.training)
        return F.relu(branch_BCHW + shortcut, inplace=True)


class ResNet50(Backbone):
    """ResNet50's encoder: maps of 1/2 to 1/32 of the height and width, with 1, 4, 8, 16 and 32 times `width` channels.

    Args:
        channels: of the image.
        width: channels of the first convolution; published weights are of 64.
        stochastic_depth: of the last block.
    """

    first = "conv1.weight"

    def __init__(self, channels: int, width: int, stochastic_depth: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs, skipped = width, iter(linear_decay(stochastic_depth, sum(_BLOCKS)))
        self.channels = (width, *(width * 2**index * _EXPANSION for index in range(len(_BLOCKS))))
        for index, blocks in enumerate(_BLOCKS):
            layer = nn.Sequential()
            for block in range(blocks):
                stride = 2 if index and not block else 1
                layer.append(Bottleneck(inputs, width * 2**index, stride, next(skipped)))
                inputs = width * 2**index * _EXPANSION
            self.add_module(f"layer{index + 1}", layer)

    def stages(self) -> list[nn.Module]:
        """Return the first convolution with its batch norm, then layer1 to layer4."""
        layers = [self.get_submodule(f"layer{index + 1}") for index in range(len(_BLOCKS))]
        return [nn.ModuleList([self.conv1, self.bn1]), *layers]

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return five feature maps, finest first."""
        x_BCHW = F.relu(self.bn1(self.conv1(image_BCHW)), inplace=True)
        maps = [x_BCHW]
        x_BCHW = F.max_pool2d(x_BCHW, 3, stride=2, padding=1)
        for layer in self.stages()[1:]:
            x_BCHW = layer(x_BCHW)
            maps.append(x_BCHW)
        return maps
