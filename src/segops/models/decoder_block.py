"""Defines the residual decoder block, along either of two equal paths.

Axes: B batch, C channels, H height, W width. `low` is the coarser of the block's two inputs, `skip` the encoder's, at
twice its height and width; of volumes by a factor an axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segops.models.blocks import FLAT, ResidualBlock, skip_branch, upsample


class DecoderBlock(ResidualBlock):
    """A residual block on nearest-upsampled `low` ++ `skip`, along either of two equal paths; volumes have the first.

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

    def __init__(
        self,
        low: int,
        skip: int,
        outputs: int,
        *,
        shortcut_bn: bool,
        skipped: float = 0.0,
        kernel: Sequence[int] = FLAT,
        scale: Sequence[int] | None = None,
    ) -> None:
        super().__init__(low + skip, outputs, shortcut_bn=shortcut_bn, skipped=skipped, kernel=kernel)
        self.low, self.scale = low, scale
        self.split = self.split and len(kernel) == 2

    def merge(self, low_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        """Return a map of `outputs` channels, at the skip's height and width, of `low` and `skip`."""
        if not self.split:
            joined: Tensor = self(torch.cat([upsample(low_BCHW, self.scale), skip_BCHW], dim=1))
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


def _norm_part(
    norm: nn.BatchNorm2d | nn.BatchNorm3d, x_BCHW: Tensor, channels: slice, values_in_plain_path: int
) -> Tensor:
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
