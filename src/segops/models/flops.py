"""Counts how much a network computes, on torch's meta device, which knows shapes alone."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from segops.models.blocks import SegmentationNetwork


def gflops(network: SegmentationNetwork, channels: int, size: tuple[int, ...]) -> float:
    """Count the GFLOPs of an image: multiply-adds times two, in thousand millions.

    Args:
        network: built on the meta device; it is put into evaluation mode.
        channels: of the image.
        size: of the image or volume; enlarged to the network's multiples.
    """
    sides = [-(-side // multiple) * multiple for side, multiple in zip(size, network.multiples, strict=True)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, channels, *sides, device="meta"))
    return float(counter.get_total_flops() / 1e9)
