"""Batch norm over the batch of all processes, on any device.

Processes that normalize by their own shares train another network than a single one does; torch's SyncBatchNorm runs on
GPUs alone. Axes: B batch, C channels, * any spatial axes.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from segops.models.decoder_block import DecoderBlock

_OWN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; each process's gradient reaches every process."""

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        total = own.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


class SharedBatchNorm(_BatchNorm):
    """Batch norm (Ioffe and Szegedy 2015) whose statistics while training are those of all processes' images.

    The state dict is a BatchNorm's. Sums travel, not means, so that processes may have shares of different sizes.
    """

    def _check_input_dim(self, _: Tensor) -> None:
        """Take any number of spatial axes."""

    def forward(self, map_BC: Tensor) -> Tensor:
        """Normalize map_BC*; while training all processes must call this together."""
        if not self.training or not torch.distributed.is_initialized():
            plain: Tensor = super().forward(map_BC)
            return plain
        axes = [axis for axis in range(map_BC.dim()) if axis != 1]
        values_BC = map_BC.float()  # bf16 sums would lose what they count
        own_count = map_BC.numel() // map_BC.shape[1]
        sums_2C = torch.stack([values_BC.sum(axes), values_BC.square().sum(axes)])
        every = cast(Tensor, _Sum.apply(torch.cat([sums_2C.reshape(-1), sums_2C.new_tensor([own_count])])))
        mean_C, square_C = (every[:-1] / every[-1]).reshape(2, -1)
        variance_C = (square_C - mean_C.square()).clamp_min(0)
        self._remember(mean_C.detach(), variance_C.detach(), every[-1].detach())
        shape = [1, -1, *[1] * (map_BC.dim() - 2)]
        normal_BC = (values_BC - mean_C.view(shape)) * torch.rsqrt(variance_C.view(shape) + self.eps)
        if self.affine:
            normal_BC = normal_BC * self.weight.view(shape) + self.bias.view(shape)
        result: Tensor = normal_BC.to(map_BC.dtype)
        return result

    def _remember(self, mean_C: Tensor, variance_C: Tensor, count: Tensor) -> None:
        """Move the running statistics towards a batch's, as BatchNorm does: the unbiased variance."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean_C, rate)
        self.running_var.lerp_(variance_C * count / (count - 1), rate)


def share_batch_norm(network: nn.Module) -> None:
    """Make each batch norm of a network, in place, one whose statistics are those of all processes.

    A decoder's split path normalizes by parts of a batch norm, which only one process can do: the plain one is taken.
    """
    for module in list(network.modules()):
        if isinstance(module, DecoderBlock):
            module.split = False
        for name, child in list(module.named_children()):
            if isinstance(child, _OWN):
                shared = SharedBatchNorm(
                    child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
                )
                shared.load_state_dict(child.state_dict())
                module.register_module(name, shared.train(child.training))
