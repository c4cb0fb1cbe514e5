"""Defines the blocks that networks are built of, for images and, where they take a kernel of three sides, for volumes.

Axes: B batch, C channels, D depth (of volumes), H height, W width, K output channels. `low` is the coarser of a
decoder's two inputs, `skip` the encoder's, at twice its height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segops.params.levels import Level

Convolution = nn.Conv2d | nn.Conv3d
FLAT: tuple[int, ...] = (3, 3)  # the kernel of an image's convolutions


class Backbone(nn.Module):
    """A classification network's convolutions, whose state dict has the names of its published weights.

    Attributes:
        first: name of the convolution that sees the image.
        channels: of the feature maps that `forward` gives.
    """

    first: str
    channels: tuple[int, ...]

    def stages(self) -> list[nn.Module]:
        """Return its parts in the order in which they are run; each parameter belongs to a single part."""
        raise NotImplementedError

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return feature maps, finest first; each has half the height and width of the map before."""
        raise NotImplementedError


class SegmentationNetwork(nn.Module):
    """A network from normalized image_BCHW to logits_BKHW of the same height and width, or BCDHW to BKDHW.

    Attributes:
        multiple: height and width of an input must be multiples of it; of volumes the largest of `multiples`.
        output: the 1x1 convolution that gives the logits.
        levels: of a network for volumes; None for images.
        deep_supervision: whether `forward_all` gives more than `forward`.
        sigmoid_channels: whether each class, background too, has a channel with a sigmoid of its own; False: a single
            logit for two classes, else a logit for each class under a softmax.
        object_channel: whether the last logit isn't a class's but how deep in its object a pixel is, by a sigmoid.
    """

    multiple: int
    output: Convolution
    levels: Sequence[Level] | None = None
    deep_supervision: bool = False
    sigmoid_channels: bool = False
    object_channel: bool = False

    @property
    def dimensions(self) -> int:
        """The number of dimensions of an image: 2, or 3 of volumes."""
        return 2 if self.levels is None else 3

    @property
    def multiples(self) -> tuple[int, ...]:
        """What each side of an input must be a multiple of."""
        if self.levels is None:
            return (self.multiple, self.multiple)
        return tuple(prod(strides) for strides in zip(*(level.stride for level in self.levels), strict=True))

    @property
    def class_channels(self) -> int:
        """The number of logits that classes have."""
        return self.output.out_channels - self.object_channel

    def class_logits(self, logits_BKHW: Tensor) -> Tensor:
        """Turn the network's logits into those of classes that exclude each other: K = 1 of two, else K classes.

        The object channel is left out.
        Of sigmoid channels a class's probability is its sigmoid over the sum of all, which is the softmax of their
        logarithms. Channels that agree, background being 1 - foreground, keep their values.
        """
        logits_BKHW = logits_BKHW[:, : self.class_channels]
        if not self.sigmoid_channels:
            return logits_BKHW
        log_BKHW = F.logsigmoid(logits_BKHW)
        return log_BKHW if log_BKHW.shape[1] > 2 else log_BKHW[:, 1:] - log_BKHW[:, :1]

    def class_probabilities(self, logits_BKHW: Tensor) -> Tensor:
        """Turn logits into probabilities: foreground alone for two classes, else classes that sum to 1."""
        own_BKHW = self.class_logits(logits_BKHW)
        return own_BKHW.sigmoid() if own_BKHW.shape[1] == 1 else own_BKHW.softmax(dim=1)

    def probabilities(self, logits_BKHW: Tensor) -> Tensor:
        """Turn logits into all that the network predicts: `class_probabilities`, then the object channel."""
        classes_BKHW = self.class_probabilities(logits_BKHW)
        if not self.object_channel:
            return classes_BKHW
        return torch.cat([classes_BKHW, logits_BKHW[:, self.class_channels :].sigmoid()], dim=1)

    def forward_all(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return logits for training: those of `forward`, then auxiliary logits, the coarsest last.

        Auxiliary logits may be smaller than the image by a power of two. Every parameter takes part in some of them.
        """
        return [self(image_BCHW)]

    def heads(self) -> list[Convolution]:
        """Return the convolutions that give the logits of `forward_all`, in its order."""
        return [self.output]

    def lowest(self) -> nn.Module:
        """Return the module whose output is the network's lowest feature map: what GradCAM hooks."""
        raise NotImplementedError

    def backbone(self) -> Backbone | None:
        """Return the encoder that can start from published weights and be frozen; None where there is none."""
        return None


def upsample(low_BCHW: Tensor, scale: Sequence[int] | None = None) -> Tensor:
    """Enlarge a map to twice its height and width, or by a factor an axis, by nearest neighbour."""
    factor = 2.0 if scale is None else tuple(map(float, scale))
    return F.interpolate(low_BCHW, scale_factor=factor, mode="nearest")


def convolution(inputs: int, outputs: int, kernel: Sequence[int], stride: int | Sequence[int] = 1) -> Convolution:
    """Build a convolution with bias and same padding for images or volumes, by the sides of its kernel."""
    sides, steps = tuple(kernel), (stride,) * len(kernel) if isinstance(stride, int) else tuple(stride)
    padding = tuple(side // 2 for side in sides)
    if len(sides) == 2:
        return nn.Conv2d(inputs, outputs, (sides[0], sides[1]), (steps[0], steps[1]), (padding[0], padding[1]))
    return nn.Conv3d(inputs, outputs, sides, steps, padding)  # type: ignore[arg-type]


def up_convolution(inputs: int, outputs: int, scale: Sequence[int]) -> nn.Module:
    """Build the transposed convolution that enlarges by a factor an axis, with a kernel as large."""
    kind = nn.ConvTranspose2d if len(scale) == 2 else nn.ConvTranspose3d
    return kind(inputs, outputs, tuple(scale), stride=tuple(scale))  # type: ignore[arg-type]


def batch_norm(channels: int, kernel: Sequence[int]) -> nn.BatchNorm2d | nn.BatchNorm3d:
    """Build a batch norm for images or volumes, by the sides of the convolution that it goes with."""
    return nn.BatchNorm2d(channels) if len(kernel) == 2 else nn.BatchNorm3d(channels)


def head_convolutions(output: Convolution, auxiliary: nn.ModuleList) -> list[Convolution]:
    """Return the output's convolution, then the auxiliary ones."""
    return [output, *(head for head in auxiliary if isinstance(head, Convolution))]


def skip_branch(branch_BCHW: Tensor, share: float, *, training: bool) -> Tensor:
    """Skip a residual block's branch for a share of the images while training (Huang et al. 2016, section 3).

    What isn't skipped is divided by 1 - share, so that nothing changes in prediction.
    """
    if not (training and share):
        return branch_BCHW
    kept_B111 = torch.rand(len(branch_BCHW), *[1] * (branch_BCHW.dim() - 1), device=branch_BCHW.device) >= share
    return branch_BCHW * (kept_B111 / (1 - share)).to(branch_BCHW.dtype)


def linear_decay(last: float, blocks: int) -> list[float]:
    """Return the skipped share of each block, from the first: n / blocks of `last` (Huang et al. 2016, equation 4)."""
    return [last * (index + 1) / blocks for index in range(blocks)]


class ConvBlock(nn.Module):
    """Batch norm, ReLU and convolution (He et al. 2016, full pre-activation)."""

    def __init__(
        self, inputs: int, outputs: int, stride: int | Sequence[int] = 1, *, kernel: Sequence[int] = FLAT
    ) -> None:
        super().__init__()
        self.norm = batch_norm(inputs, kernel)
        self.conv = convolution(inputs, outputs, kernel, stride)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels, at 1 / stride of the height and width."""
        convolved: Tensor = self.conv(F.relu(self.norm(x_BCHW), inplace=True))
        return convolved


class Shortcut(nn.Module):
    """A 1x1 convolution, with batch norm where it is asked for."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int | Sequence[int] = 1,
        *,
        norm: bool,
        kernel: Sequence[int] = FLAT,
    ) -> None:
        super().__init__()
        self.strides = (stride,) * len(kernel) if isinstance(stride, int) else tuple(stride)
        self.conv = convolution(inputs, outputs, (1,) * len(kernel))
        self.norm: nn.Module = batch_norm(outputs, kernel) if norm else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels, at 1 / stride of the height and width."""
        # A strided 1x1 convolution of four channels in channels_last crashes torch 2.13's backward pass on some CPUs;
        # taking every second pixel first is the same function.
        every = [slice(None), slice(None), *(slice(None, None, stride) for stride in self.strides)]
        shortened: Tensor = self.norm(self.conv(x_BCHW[tuple(every)]))
        return shortened


class ResidualBlock(nn.Module):
    """Two `ConvBlock`s beside a shortcut; the first has the stride. `skipped`: see `skip_branch`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int | Sequence[int] = 1,
        *,
        shortcut_bn: bool,
        skipped: float = 0.0,
        kernel: Sequence[int] = FLAT,
    ) -> None:
        super().__init__()
        self.skipped = skipped
        self.first = ConvBlock(inputs, outputs, stride, kernel=kernel)
        self.second = ConvBlock(outputs, outputs, kernel=kernel)
        self.shortcut = Shortcut(inputs, outputs, stride, norm=shortcut_bn, kernel=kernel)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels, at 1 / stride of the height and width."""
        branch_BCHW = skip_branch(self.second(self.first(x_BCHW)), self.skipped, training=self.training)
        residual: Tensor = branch_BCHW + self.shortcut(x_BCHW)
        return residual


def conv_bn_relu(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Build a convolution with bias and same padding, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def double_conv(inputs: int, outputs: int, *, batch_norm: bool, dropout: float = 0.0) -> nn.Sequential:
    """Build twice: 3x3 convolution, batch norm where it is asked for, ReLU, dropout where it is asked for."""
    return conv_layers((inputs, outputs, outputs), FLAT, norm=batch_norm, dropout=dropout)


def conv_layers(widths: Sequence[int], kernel: Sequence[int], *, norm: bool, dropout: float = 0.0) -> nn.Sequential:
    """Build a convolution and ReLU for each pair of widths in a row, and batch norm and dropout where asked for."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers.append(convolution(inputs, outputs, kernel))
        if norm:
            layers.append(batch_norm(outputs, kernel))
        layers.append(nn.ReLU(inplace=True))
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


class UpBlock(nn.Module):
    """A 2x2 transposed convolution to `up` channels, concatenation with the skip, and a double convolution."""

    def __init__(self, low: int, skip: int, outputs: int, *, up: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(low, up, 2, stride=2)
        self.convs = double_conv(up + skip, outputs, batch_norm=True)

    def forward(self, low_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels, at the skip's height and width."""
        decoded: Tensor = self.convs(torch.cat([self.up(low_BCHW), skip_BCHW], dim=1))
        return decoded
