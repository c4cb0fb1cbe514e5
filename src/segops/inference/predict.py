"""Using a trained candidate: one image in, foreground probability or mask out, at native size.

Axes: H height, W width, C channels, K output channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segops.candidate_params import CandidateParams
from segops.contracts import TrainedModel
from segops.inference.preprocess import match_channels, resize_image, restore
from segops.inference.program import SegmentationProgram, load_program
from segops.inference.tiling import blend_tiles

Image = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

_LARGE = 2  # times the largest training side: from there on an image is tiled


class Predictor:
    """A program with its threshold and its tiling rule.

    An image with a side larger than twice the largest training side is cut into overlapping tiles of the median
    training size, so that objects keep the scale that the network has learnt. `evaluate` and `predict` both come here.
    """

    def __init__(
        self,
        program: SegmentationProgram,
        model: TrainedModel,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.program = program.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = model
        self.overlap = CandidateParams.model_validate(model.params).input.tile_overlap

    @classmethod
    def load(cls, folder: Path, *, device: str | torch.device = "cpu") -> Self:
        """From a candidate's folder. Raises UserError for a missing file or other weights than model.json names."""
        return cls(*load_program(folder), device=device)

    def probability(self, image_HWC: Image) -> Floats:
        """Probabilities KHW at native size, float32 in [0, 1].

        Args:
            image_HWC: uint8 or uint16, 1 or 3 channels; turned into the candidate's number of channels.

        Returns:
            K = 1, foreground, for two classes; else K classes that sum to 1.
        """
        if not self._large(image_HWC):
            return self._numpy(self.program, image_HWC)
        tile_hw = (self.model.train_height_px[0], self.model.train_width_px[0])
        return blend_tiles(image_HWC, tile_hw, self.overlap, lambda tile: self._numpy(self.program, tile))

    def foreground(self, image_HWC: Image) -> Floats:
        """Foreground probability HW at native size."""
        return foreground_of(self.probability(image_HWC))

    def mask(self, image_HWC: Image) -> npt.NDArray[np.uint8]:
        """Class indices HW, as `mask_of` decides with the model's threshold."""
        return mask_of(self.probability(image_HWC), self.model.threshold)

    def stretched(self, image_HWC: Image, size: tuple[int, int]) -> Floats:
        """Foreground probability HW with the whole image stretched to `size`, without a detour over native size.

        For the published evaluation, which is at a fixed size. Never tiles.
        """

        def run(image_BCHW: Tensor) -> Tensor:
            if self.program.resize == "stretch":
                return restore(self.program.at_network_size(image_BCHW), size, "stretch")
            return resize_image(self.program(image_BCHW), size, "stretch")

        return foreground_of(self._numpy(run, image_HWC))

    def _large(self, image_HWC: Image) -> bool:
        height, width = image_HWC.shape[:2]
        return bool(height > _LARGE * self.model.train_height_px[1] or width > _LARGE * self.model.train_width_px[1])

    @torch.inference_mode()
    def _numpy(self, run: Any, image_HWC: Image) -> Floats:
        """Run a function from image_BCHW to map_BKHW on one image."""
        full = self.model.full_scale[image_HWC.dtype.name]
        scaled = image_HWC.astype(np.float32) / np.float32(full)
        image_BCHW = torch.from_numpy(scaled).to(self.device).permute(2, 0, 1)[None]
        map_BKHW: Tensor = run(match_channels(image_BCHW, self.program.channels))
        return np.asarray(map_BKHW[0].clamp(0, 1).cpu().numpy(), np.float32)


def foreground_of(probability_KHW: Floats) -> Floats:
    """Foreground probability HW: the one channel of two classes, or 1 - background of several."""
    first_HW: Floats = probability_KHW[0]
    return first_HW if len(probability_KHW) == 1 else 1 - first_HW


def mask_of(probability_KHW: Floats, threshold: float | None) -> npt.NDArray[np.uint8]:
    """Class indices HW: of two classes foreground above the threshold, of several the likeliest (no threshold)."""
    if threshold is None:
        return np.asarray(probability_KHW.argmax(axis=0), np.uint8)
    assert len(probability_KHW) == 1, "several classes have no threshold"
    return np.asarray(probability_KHW[0] > np.float32(threshold), np.uint8)
