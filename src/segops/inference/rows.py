"""Takes an image by rows, so that no step from pixels to probabilities has to hold the whole of a large one.

Axes: B batch, C channels, K output channels, H height, W width; h rows of a strip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

STRIP_PX = 2**20  # of an image at a time, where a step is free to choose


@dataclass(frozen=True)
class Rows:
    """An image B, C, H, W whose rows are computed when they are asked for.

    Attributes:
        read: from the first row and the one after the last to image_BChW, float32.
        device: on which they come.
    """

    height: int
    width: int
    read: Callable[[int, int], Tensor]
    device: torch.device

    @classmethod
    def of(cls, image_BCHW: Tensor) -> Rows:
        """Take rows of an image in memory."""
        height, width = image_BCHW.shape[2:]
        return cls(height, width, lambda first, last: image_BCHW[:, :, first:last], image_BCHW.device)

    def changed(self, change: Callable[[Tensor], Tensor]) -> Rows:
        """Return the image after a change of each pixel by itself."""
        return replace(self, read=lambda first, last: change(self.read(first, last)))

    def spans(self) -> list[tuple[int, int]]:
        """Cut the rows into strips of about a million pixels: first row and the one after the last of each."""
        return spans(self.height, self.width)

    def strips(self) -> Iterator[Tensor]:
        """Read the image from top to bottom, strip by strip."""
        return (self.read(first, last) for first, last in self.spans())


def spans(height: int, width: int) -> list[tuple[int, int]]:
    """Cut rows into strips of about a million pixels: first row and the one after the last of each."""
    step = max(1, STRIP_PX // width)
    return [(first, min(first + step, height)) for first in range(0, height, step)]


def joined(strips: Iterator[Tensor]) -> Tensor:
    """Put strips BKhW together; a single one isn't copied."""
    every = list(strips)
    return every[0] if len(every) == 1 else torch.cat(every, dim=2)


def mean_strips(sources: Sequence[Iterator[Tensor]]) -> Iterator[Tensor]:
    """Average maps of the same size that come in strips of different heights."""
    if len(sources) == 1:
        yield from sources[0]
        return
    pending = [next(source) for source in sources]
    while pending:
        rows = min(strip.shape[2] for strip in pending)
        yield torch.stack([strip[:, :, :rows] for strip in pending]).mean(dim=0)
        rest = [strip[:, :, rows:] for strip in pending]
        following = [
            strip if strip.shape[2] else next(source, None) for strip, source in zip(rest, sources, strict=True)
        ]
        pending = [strip for strip in following if strip is not None]
        assert len(pending) in (0, len(sources)), "maps of the same height end together"
