"""Defines the blocks that networks are built of.

Axes: B batch, C channels, H height, W width, K output channels. `low` is the coarser of a decoder's two inputs, `skip`
the encoder's, at twice its height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Backbone(nn.Module):
    """A classification network's convolutions, whose state dict has torchvision's names.

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
    """A network from normalized image_BCHW to logits_BKHW of the same height and width.

    Attributes:
        multiple: height and width of an input must be multiples of it.
        output: the 1x1 convolution that gives the logits.
        deep_supervision: whether `forward_all` gives more than `forward`.
        sigmoid_channels: whether each class, background too, has a channel with a sigmoid of its own; False: a single
            logit for two classes, else a logit for each class under a softmax.
        object_channel: whether the last logit isn't a class's but how deep in its object a pixel is, by a sigmoid.
    """

    multiple: int
    output: nn.Conv2d
    deep_supervision: bool = False
    sigmoid_channels: bool = False
    object_channel: bool = False

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

    def heads(self) -> list[nn.Conv2d]:
        """Return the convolutions that give the logits of `forward_all`, in its order."""
        return [self.output]

    def lowest(self) -> nn.Module:
        """Return the module whose output is the network's lowest feature map: what GradCAM hooks."""
        raise NotImplementedError

    def backbone(self) -> Backbone | None:
        """Return the encoder that can start from published weights and be frozen; None where there is none."""
        return None


def upsample(low_BCHW: Tensor) -> Tensor:
    """Enlarge a map to twice its height and width, by nearest neighbour."""
    return F.interpolate(low_BCHW, scale_factor=2.0, mode="nearest")


def skip_branch(branch_BCHW: Tensor, share: float, *, training: bool) -> Tensor:
    """Skip a residual block's branch for a share of the images while training (Huang et al. 2016, section 3).

    What isn't skipped is divided by 1 - share, so that nothing changes in prediction.
    """
    if not (training and share):
        return branch_BCHW
    kept_B111 = torch.rand(len(branch_BCHW), 1, 1, 1, device=branch_BCHW.device) >= share
    return branch_BCHW * (kept_B111 / (1 - share)).to(branch_BCHW.dtype)


def linear_decay(last: float, blocks: int) -> list[float]:
    """Return the skipped share of each block, from the first: n / blocks of `last` (Huang et al. 2016, equation 4)."""
    return [last * (index + 1) / blocks for index in range(blocks)]


class ConvBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution (He et al. 2016, full pre-activation)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels, at 1 / stride of the height and width."""
        convolved: Tensor = self.conv(F.relu(self.norm(x_BCHW), inplace=True))
        return convolved


class Shortcut(nn.Module):
    """A 1x1 convolution, with batch norm where it is asked for."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, norm: bool) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(inputs, outputs, 1)
        self.norm: nn.Module = nn.BatchNorm2d(outputs) if norm else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels, at 1 / stride of the height and width."""
        # A strided 1x1 convolution of four channels in channels_last crashes torch 2.13's backward pass on some CPUs;
        # taking every second pixel first is the same function.
        shortened: Tensor = self.norm(self.conv(x_BCHW[:, :, :: self.stride, :: self.stride]))
        return shortened


class ResidualBlock(nn.Module):
    """Two `ConvBlock`s beside a shortcut; the first has the stride. `skipped`: see `skip_branch`."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, shortcut_bn: bool, skipped: float = 0.0) -> None:
        super().__init__()
        self.skipped = skipped
        self.first = ConvBlock(inputs, outputs, stride)
        self.second = ConvBlock(outputs, outputs)
        self.shortcut = Shortcut(inputs, outputs, stride, norm=shortcut_bn)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels, at 1 / stride of the height and width."""
        branch_BCHW = skip_branch(self.second(self.first(x_BCHW)), self.skipped, training=self.training)
        residual: Tensor = branch_BCHW + self.shortcut(x_BCHW)
        return residual


class DecoderBlock(ResidualBlock):
    """A residual block on nearest-upsampled `low` ++ `skip`, along either of two equal paths.

    The plain path upsamples, concatenates and convolves. The split path never makes the large concatenation:

    - a 3x3 convolution of a nearest-upsampled map is a transposed convolution (kernel 4, stride 2, padding 1) of the
      small map with summed weights, and the skip's half is convolved by itself and added;
    - a 1x1 convolution commutes with nearest upsampling, so the shortcut runs on the small map;
    - batch norm works by channel, and repeating every value four times changes neither mean nor biased variance. The
      running variance is unbiased, n / (n - 1), with four times as many values in the plain path: it is corrected.

    Parameters, state dict, outputs, gradients and running statistics are those of the plain path up to rounding.

    Attributes:
        split: whether the split path is taken; both give the same function.
    """

    split: bool = True

    def __init__(self, low: int, skip: int, outputs: int, *, shortcut_bn: bool, skipped: float = 0.0) -> None:
        super().__init__(low + skip, outputs, shortcut_bn=shortcut_bn, skipped=skipped)
        self.low = low

    def merge(self, low_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels, at the skip's height and width, of `low` and `skip`."""
        if not self.split:
            joined: Tensor = self(torch.cat([upsample(low_BCHW), skip_BCHW], dim=1))
            return joined
        low_normed, skip_normed = self._norm_halves(low_BCHW, skip_BCHW)
        conv = self.first.conv
        summed = upsampled_weight(conv.weight[:, : self.low])
        x_BCHW = F.conv_transpose2d(F.relu(low_normed, inplace=True), summed, stride=2, padding=1)
        x_BCHW = x_BCHW + F.conv2d(F.relu(skip_normed, inplace=True), conv.weight[:, self.low :], conv.bias, padding=1)
        branch_BCHW = skip_branch(self.second(x_BCHW), self.skipped, training=self.training)
        merged: Tensor = branch_BCHW + self._split_shortcut(low_BCHW, skip_BCHW)
        return merged

    def _split_shortcut(self, low_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        """Return the shortcut of both halves, convolved apart."""
        conv = self.shortcut.conv
        low = upsample(F.conv2d(low_BCHW, conv.weight[:, : self.low]))
        shortened: Tensor = self.shortcut.norm(low + F.conv2d(skip_BCHW, conv.weight[:, self.low :], conv.bias))
        return shortened

    def _norm_halves(self, low_BCHW: Tensor, skip_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch norms of `low` and of the skip, by their halves of the channels."""
        norm = self.first.norm
        values = low_BCHW.numel() // low_BCHW.shape[1]
        low_normed = _norm_part(norm, low_BCHW, slice(None, self.low), values_in_plain_path=4 * values)
        skip_normed = _norm_part(norm, skip_BCHW, slice(self.low, None), values_in_plain_path=4 * values)
        if norm.training and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        return low_normed, skip_normed


def _norm_part(norm: nn.BatchNorm2d, x_BCHW: Tensor, channels: slice, values_in_plain_path: int) -> Tensor:
    """Normalize by some of the channels of `norm`, whose running statistics follow in training mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.momentum is not None
    old_mean, old_var = norm.running_mean[channels], norm.running_var[channels]
    # The backward pass keeps what batch_norm is given: not the buffers, which the other channels' call changes.
    mean, var = (old_mean.clone(), old_var.clone()) if norm.training else (old_mean, old_var)
    normed_BCHW = F.batch_norm(
        x_BCHW, mean, var, norm.weight[channels], norm.bias[channels], norm.training, norm.momentum, norm.eps
    )
    if norm.training:
        values = x_BCHW.numel() // x_BCHW.shape[1]
        unbiased = values_in_plain_path / (values_in_plain_path - 1) * (values - 1) / values
        kept = old_var * (1 - norm.momentum)
        old_mean.copy_(mean)
        old_var.copy_(var if unbiased == 1 else kept + (var - kept) * unbiased)
    return normed_BCHW


def upsampled_weight(weight_OI33: Tensor) -> Tensor:
    """Return the transposed convolution's weight_IO44 that equals nearest x2 upsampling and a padded 3x3 convolution.

    An output pixel of even row sees the rows (i - 1, i, i) of the small map, of odd row (i, i, i + 1): two of the
    three taps meet the same value and are summed; columns likewise.
    """
    for axis in (2, 3):
        first, middle, last = weight_OI33.unbind(axis)
        weight_OI33 = torch.stack([last, middle + last, first + middle, first], dim=axis)
    return weight_OI33.transpose(0, 1)


def conv_bn_relu(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Build a convolution with bias and same padding, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def double_conv(inputs: int, outputs: int, *, batch_norm: bool, dropout: float = 0.0) -> nn.Sequential:
    """Build twice: 3x3 convolution, batch norm where it is asked for, ReLU, dropout where it is asked for."""
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layers.append(nn.Conv2d(width, outputs, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
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
