"""The place of a network whose masks another program makes: `inference.external` runs it.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segops.models.blocks import SegmentationNetwork


class External(SegmentationNetwork):
    """Has no weights and computes nothing."""

    multiple = 1

    def __init__(self, channels: int, logits: int, **_of_the_command: Any) -> None:
        super().__init__()
        del channels
        self._logits = logits
        self.register_buffer("key", torch.zeros(32, dtype=torch.uint8))  # as of `Intensity`

    @property
    def class_channels(self) -> int:
        """The number of logits that classes have."""
        return self._logits

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Raise NotImplementedError."""
        raise NotImplementedError("the masks are made by another program")
