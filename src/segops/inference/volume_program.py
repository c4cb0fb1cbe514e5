"""The program of a network for volumes: from a volume of any size at the candidate's spacing to its probabilities.

Resampling to that spacing and back isn't part of it, since it needs the spacing: see `inference.volumes`.

Axes: B batch, C channels, K output channels, D depth, H height, W width; d, h, w are a window's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from segops.contracts.model import InputStatistics
from segops.inference.program import SegmentationProgram
from segops.inference.volume_windows import blend_at_once, blend_volume
from segops.models.blocks import SegmentationNetwork
from segops.params.inference import TestTimeAugmentation
from segops.params.input import InputParams


class VolumeProgram(SegmentationProgram):
    """A network for volumes with all that makes probabilities of a volume at its spacing.

    Args: as of `SegmentationProgram`; windows always have the size of the training patches.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        input_params: InputParams,
        statistics: InputStatistics | None = None,
        tta: TestTimeAugmentation = "none",
    ) -> None:
        super().__init__(network, input_params, statistics, tta)
        self.sides = input_params.size

    def forward(self, image_BCDHW: Tensor) -> Tensor:
        """Compute probabilities, as `SegmentationProgram.forward` does.

        Args:
            image_BCDHW: float32, at the candidate's spacing; values as of `SegmentationProgram.forward`.

        Returns:
            probability_BKDHW: float32 in [0, 1].
        """
        blend = blend_at_once if torch.compiler.is_exporting() else blend_volume
        return self._blended(blend, image_BCDHW, self._probabilities)

    def in_windows(self, image_BCDHW: Tensor, compute: Callable[[SegmentationNetwork, Tensor], Tensor]) -> Tensor:
        """Return map_BKDHW of what `compute` makes of a volume, in as many windows as a prediction takes."""
        return self._blended(blend_volume, image_BCDHW, partial(compute, self.network))

    def _blended(
        self,
        blend: Callable[[Tensor, tuple[int, ...], float, Callable[[Tensor], Tensor]], Tensor],
        image_BCDHW: Tensor,
        compute: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Enhance a volume, run `compute` on its windows, and blend their maps."""
        enhanced_BCDHW = self.steps.enhance(image_BCDHW)
        return blend(enhanced_BCDHW, self.sides, self.windows.overlap, partial(self._in_frame, compute=compute))
