"""What isn't a network sees the whole native image at once: no windows, no padding, no other size.

A threshold that an image's own values decide would be another one in each window, and padding would count.
Axes: B batch, C channels, K output channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from segops.inference.program import SegmentationProgram
from segops.inference.rows import Rows, joined


class WholeImageProgram(SegmentationProgram):
    """Runs on an image of any size as it is; `input.size` has no say."""

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Compute probability_BKHW at native size; see `SegmentationProgram.forward`."""
        if torch.compiler.is_exporting():
            return self._probabilities(self.steps.enhance(image_BCHW))
        return joined(self.strips(Rows.of(image_BCHW)))

    def _window_by_window(self, image: Rows, compute: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """Run `compute` on the whole image."""
        yield compute(joined(self.steps.by_rows(image).strips()))
