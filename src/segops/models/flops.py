"""Counts how much a network computes, on torch's meta device, which knows shapes alone."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from segops.models.blocks import SegmentationNetwork


def gflops(network: SegmentationNetwork, channels: int, size_hw: tuple[int, int]) -> float:
    """Count the GFLOPs of an image: multiply-adds times two, in thousand millions.

    Args:
        network: built on the meta device; it is put into evaluation mode.
        channels: of the image.
        size_hw: of the image; enlarged to the network's multiple.
    """
    height, width = (-(-side // network.multiple) * network.multiple for side in size_hw)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, channels, height, width, device="meta"))
    return float(counter.get_total_flops() / 1e9)
