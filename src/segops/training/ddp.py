"""Averages several processes' gradients by DDP, each gradient at a place that never changes."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning_fabric.strategies import DDPStrategy
from torch import nn
from torch.nn.parallel.distributed import DistributedDataParallel

from segops.training.torchrun import PEERS


class SteadyStrategy(DDPStrategy):
    """DDP that looks for unused parameters, since it lays gradients out anew after a process's first step otherwise.

    The order in which three or more processes' shares are added up depends on where a gradient lies, so a training that
    went on would differ in its last bits.
    """

    def __init__(self, start_method: Literal["popen", "spawn"]) -> None:
        super().__init__(start_method=start_method, timeout=PEERS, find_unused_parameters=True)

    def setup_module(self, module: nn.Module) -> DistributedDataParallel:
        """Wrap a network, whose own parameters and their names stay as they are."""
        wrapped: DistributedDataParallel = super().setup_module(_BesideUnused(module))
        return wrapped


class _BesideUnused(nn.Module):
    """A network, and a parameter that nothing uses, since DDP warns at length in each process where it finds none."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.unused = nn.Parameter(torch.zeros(1, device=next(network.parameters()).device))

    def forward(self, *given: Any, **named: Any) -> Any:
        return self.network(*given, **named)
