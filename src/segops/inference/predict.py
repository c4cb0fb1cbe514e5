"""Using a trained candidate: one image in, foreground probability, mask or objects out, at native size.

Axes: H height, W width, C channels, K output channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segops.errors import UserError
from segops.inference.instances import label_objects
from segops.inference.masks import clean_mask, foreground_of, mask_of
from segops.inference.preprocess import resize_image, restore, unit_image
from segops.inference.program import (
    EnsembleProgram,
    Program,
    SegmentationProgram,
    load_folds,
    load_program,
    mean_of,
)
from segops.inference.windows import blend_windows
from segops.model_contracts import TrainedModel
from segops.params.candidate import CandidateParams

Image = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

_LARGE = 2  # times the largest training side: from there on an image that is resized is cut into windows


class Predictor:
    """A program with its threshold and its windows.

    A candidate that sees native pixels predicts in overlapping windows of the size of its training patches. One that
    resizes takes an image as a whole, unless a side is larger than twice the largest training side: then it is cut into
    windows of the median training size, so that objects keep the scale that the network has learnt. `evaluate` and
    `predict` both come here.
    """

    def __init__(
        self,
        program: Program,
        model: TrainedModel,
        folds: Mapping[int, SegmentationProgram] | None = None,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.folds = folds or {}
        self.program = program.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = model
        params = CandidateParams.model_validate(model.params)
        self.overlap, self.instance_params = params.input.window_overlap, params.inference.instances

    @classmethod
    def load(cls, folder: Path, *, device: str | torch.device = "cpu") -> Self:
        """From a candidate's folder. Raises UserError for a missing file or other weights than model.json names."""
        program, model = load_program(folder)
        return cls(program, model, load_folds(folder), device=device)

    def out_of_fold(self, fold: int) -> Predictor:
        """A cross-validated candidate's model that hasn't seen that fold."""
        return Predictor(self.folds[fold], self.model, device=self.device)

    def validating(self, fold: int) -> Predictor:
        """Who judges an image of that fold (-1: of test): this, but of an ensemble the model that hasn't seen it."""
        return self.out_of_fold(fold) if self.model.ensemble and fold >= 0 else self

    @torch.inference_mode()
    def probability(self, image_HWC: Image) -> Floats:
        """Probabilities KHW at native size, float32 in [0, 1].

        Args:
            image_HWC: of a type and a number of channels that the candidate takes (grey and RGB become each other).

        Returns:
            K = 1, foreground, for two classes; else K classes that sum to 1.
        """
        return _numpy(self.in_windows(image_HWC, SegmentationProgram.predict_window).clamp(0, 1))

    def in_windows(self, image_HWC: Image, compute: Callable[[SegmentationProgram, Tensor], Tensor]) -> Tensor:
        """map_BKHW of what `compute` makes of an image, as a whole or blended from windows BChw on the device; of an
        ensemble the mean over its programs."""
        image_BCHW = self._scaled(image_HWC)
        maps = [
            blend_windows(
                self._whole(member, image_BCHW),
                self._window_hw(member, image_BCHW),
                self.overlap,
                partial(compute, member),
                device=self.device,
            )
            for member in self._members
        ]
        return mean_of(maps)

    def foreground(self, image_HWC: Image) -> Floats:
        """Foreground probability HW at native size."""
        return foreground_of(self.probability(image_HWC))

    def mask(self, image_HWC: Image) -> npt.NDArray[np.uint8]:
        """Class indices HW, as `decide` finds them."""
        return self.decide(self.probability(image_HWC))

    def decide(self, probability_KHW: Floats) -> npt.NDArray[np.uint8]:
        """Class indices HW by the model's rule, threshold and cleaning."""
        return clean_mask(mask_of(probability_KHW, self.model.threshold), self.model.cleaning)

    def objects(self, mask_HW: npt.NDArray[np.uint8], probability_KHW: Floats) -> npt.NDArray[np.int32]:
        """Objects HW of a mask, numbered from 1; all 0 where the candidate tells none apart."""
        return label_objects(mask_HW, probability_KHW, self.instance_params)

    @torch.inference_mode()
    def stretched(self, image_HWC: Image, size: tuple[int, int]) -> Floats:
        """Foreground probability HW with the whole image stretched to `size`, for the published evaluation.

        A candidate that stretches does so without a detour over native size, and without windows.
        """
        if any(member.resize != "stretch" for member in self._members):
            native_BKHW = torch.from_numpy(self.probability(image_HWC))[None]
            return foreground_of(_numpy(resize_image(native_BKHW, size, "stretch").clamp(0, 1)))
        image_BCHW = self._scaled(image_HWC).to(self.device)
        maps = [restore(member.at_network_size(image_BCHW), size, "stretch") for member in self._members]
        return foreground_of(_numpy(mean_of(maps).clamp(0, 1)))

    @property
    def _members(self) -> list[SegmentationProgram]:
        return self.program.programs if isinstance(self.program, EnsembleProgram) else [self.program]

    def _whole(self, member: SegmentationProgram, image_BCHW: Tensor) -> Tensor:
        """What windows are cut from: of native pixels the enhanced image, since its steps look at all of it."""
        if member.resize != "none" or not member.steps.enhances:
            return image_BCHW
        enhanced: Tensor = member.steps.enhance(image_BCHW.to(self.device))
        return enhanced.to(image_BCHW.device)

    def _window_hw(self, member: SegmentationProgram, image_BCHW: Tensor) -> tuple[int, int]:
        if member.resize == "none":
            size: tuple[int, int] = member.size
            return size
        height, width = int(image_BCHW.shape[2]), int(image_BCHW.shape[3])
        median_h, largest_h = self.model.train_height_px
        median_w, largest_w = self.model.train_width_px
        large: bool = height > _LARGE * largest_h or width > _LARGE * largest_w
        return (median_h, median_w) if large else (height, width)

    def _scaled(self, image_HWC: Image) -> Tensor:
        """image_BCHW float32 with the candidate's channels, on the CPU. UserError for another kind of image."""
        if image_HWC.dtype.name not in self.model.full_scale:
            taken = " or ".join(self.model.full_scale)
            raise UserError(f"{image_HWC.dtype} samples, but the model takes {taken}; give it images as in training")
        return unit_image(image_HWC, self.model.full_scale[image_HWC.dtype.name], self.program.channels)


def _numpy(map_BKHW: Tensor) -> Floats:
    return np.asarray(map_BKHW[0].cpu().numpy(), np.float32)
