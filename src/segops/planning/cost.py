"""Estimates what training costs, from shapes alone: GFLOPs and memory of a network.

A timing would differ from run to run, so the throughput is stated instead: see `GFLOPS_A_THREAD`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from segops.files import MIB

if TYPE_CHECKING:
    from torch import nn

    from segops.models.blocks import SegmentationNetwork

# Training steps of the default networks in fp32, 64 to 256 pixels, on two threads of a busy AMD EPYC did 17 to 170
# GFLOP/s; a processor with native bf16 reaches several hundred.
GFLOPS_A_THREAD = 20.0
TRAIN_COST = 3.0  # forward and backward, in forward passes
STEP_GFLOPS = 1.0  # what a step's optimizer, augmentation and calls take beside, as so much arithmetic
_COUNTED_PX = 128
_BYTES = 4 * 3  # of an activation: value, gradient, and what the optimizer and the allocator add


@cache
def cost_of_a_megapixel(model_text: str, channels: int, classes: int) -> tuple[float, float]:
    """Return the GFLOPs of a forward pass, and the MiB that its training step holds, both for a million pixels.

    They are counted on a square of _COUNTED_PX: convolutions cost in proportion to pixels.

    Args:
        model_text: `candidates.*.model` as JSON.
        channels: of the network's input.
        classes: with background.
    """
    import torch
    from pydantic import TypeAdapter

    from segops.models.catalogue import build
    from segops.params.model import ModelParams

    params: Any = TypeAdapter(ModelParams).validate_json(model_text)
    with torch.device("meta"):
        network = build(params, channels=channels, classes=classes)
    billions, mib = cost_of(network, channels, (_COUNTED_PX, _COUNTED_PX))
    squares = 1e6 / _COUNTED_PX**2
    return billions * squares, mib * squares


def cost_of(network: SegmentationNetwork, channels: int, size: tuple[int, ...]) -> tuple[float, float]:
    """Return the GFLOPs of a forward pass over an input of that size, and the MiB that its training step holds.

    The arguments are those of `counts_of`.
    """
    billions, activations = counts_of(network, channels, size)
    return billions, activations * _BYTES / MIB


def counts_of(network: SegmentationNetwork, channels: int, size: tuple[int, ...]) -> tuple[float, int]:
    """Return the GFLOPs of a forward pass over an input of that size, and how many numbers its layers give.

    Args:
        network: on the meta device; it is left with hooks.
        channels: of its input.
        size: sides of its input, in pixels.
    """
    import torch

    from segops.models.flops import gflops

    activations = 0

    def count(module: nn.Module, _: Any, output: Any) -> None:
        nonlocal activations
        if isinstance(output, torch.Tensor) and not list(module.children()):
            activations += output.numel()

    for module in network.modules():
        module.register_forward_hook(count)
    return gflops(network, channels, size), activations
