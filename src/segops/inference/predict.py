"""Uses a trained candidate: an image or a volume in, foreground probability, mask or objects out, at native size.

Axes: H height, W width, C channels, K output channels; volumes have a depth D before H.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segops.contracts.model import TrainedModel, TrainedWeights
from segops.contracts.volumes import Spacing
from segops.data.image_rows import ImageRows
from segops.data.images import bits_of
from segops.errors import UserError
from segops.inference.cleaning import clean_mask, foreground_of, mask_of
from segops.inference.instances import label_objects
from segops.inference.preprocess import check_channels, memory_layout, unit_image
from segops.inference.program import Program, SegmentationProgram
from segops.inference.rows import STRIP_PX, Rows, joined, spans
from segops.inference.trained import build_folds, build_trained
from segops.inference.volumes import volume_map
from segops.inference.whole_image import WholeImageProgram
from segops.inference.windows import windows_at_once
from segops.models.blocks import SegmentationNetwork
from segops.params.candidate import CandidateParams
from segops.params.inference import CleaningParams, InstanceParams

_MOST_AT_ONCE = 8  # images, which are read meanwhile
_BEYOND_SHARE = 1e-3  # of an image's samples that may be brighter than training's white, such as hot pixels

Image = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class Maps(NamedTuple):
    """Holds what a program predicts of an image at native size, float32 in [0, 1].

    Attributes:
        probability_KHW: K = 1, foreground, for two classes; else K classes that sum to 1.
        depth_HW: how deep in its object each pixel is; None of a candidate without `objects`.
    """

    probability_KHW: Floats
    depth_HW: Floats | None


class Probabilities:
    """A program on a device, which gives probabilities of images."""

    def __init__(
        self,
        program: Program,
        model: TrainedWeights,
        folds: Mapping[int, SegmentationProgram] | None = None,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.folds = folds or {}
        self.program = program.eval().to(self.device, memory_format=memory_layout(program.dimensions))  # type: ignore[call-overload]
        self.model = model

    @classmethod
    def of(cls, folder: Path, model: TrainedWeights, *, device: str | torch.device) -> Self:
        """Load the weights in a folder. Raises UserError where they are missing or not those that `model` names."""
        return cls(build_trained(folder, model), model, build_folds(folder, model), device=device)

    def out_of_fold(self, fold: int) -> Self:
        """Return a cross-validated candidate's model that hasn't seen that fold."""
        return type(self)(self.folds[fold], self.model, device=self.device)

    def validating(self, fold: int) -> Self:
        """Return what judges an image of that fold (-1: test): this, but for an ensemble `out_of_fold`."""
        return self.out_of_fold(fold) if self.model.ensemble and fold >= 0 else self

    @torch.inference_mode()
    def maps(self, image_HWC: Image, spacing_mm: Spacing | None = None) -> Maps:
        """Compute all that the program predicts of an image.

        Args:
            image_HWC: of a type and a number of channels that the candidate takes (grey and RGB become each other), or
                a volume DHWC.
            spacing_mm: of a volume's voxels.
        """
        if image_HWC.ndim == 4:
            return Maps(self._volume_map(self.program, image_HWC, spacing_mm).clip(0, 1), None)
        return whole(self.strips(ImageRows.of(image_HWC)))

    @torch.inference_mode()
    def strips(self, image: ImageRows) -> Iterator[Maps]:
        """Compute what `maps` does of an image that is read by rows, and yield it by rows from top to bottom."""
        for map_BKhW in self.program.strips(self._scaled(image)):
            yield self._named(_numpy(map_BKhW.clamp(0, 1)))

    def in_a_piece(self, image: ImageRows) -> bool:
        """Say whether an image is so small that it needn't go by rows."""
        return image.height * image.width <= STRIP_PX

    @property
    def most_at_once(self) -> int:
        """How many small images of a size may go through the network together.

        On a CPU it is one: more are no faster, and an image's last bits would depend on those beside it.
        """
        return 1 if self.device.type == "cpu" or isinstance(self.program, WholeImageProgram) else _MOST_AT_ONCE

    def at_once(self, image: ImageRows) -> int:
        """Return how many images of this size go through the network together."""
        seen = [(image.height, image.width), *(program.size for program in self.program.programs)]
        return min(self.most_at_once, *(windows_at_once(size_hw, self.device) for size_hw in seen))

    @torch.inference_mode()
    def maps_together(self, images: Sequence[ImageRows]) -> list[Maps]:
        """Compute what `maps` does of several images of the same size."""
        scaled = [self._scaled(image) for image in images]

        def read(first: int, last: int) -> Tensor:
            return torch.cat([rows.read(first, last) for rows in scaled])

        together = Rows(images[0].height, images[0].width, read, self.device)
        map_BKHW = joined(self.program.strips(together)).clamp(0, 1)
        return [self._named(_numpy(map_KHW[None])) for map_KHW in map_BKHW]

    def _named(self, map_KHW: Floats) -> Maps:
        """Tell the classes from the depth in objects."""
        classes = self.model.class_channels
        return Maps(map_KHW[:classes], map_KHW[classes] if self.model.object_channel else None)

    def probability(self, image_HWC: Image, spacing_mm: Spacing | None = None) -> Floats:
        """Compute the probabilities KHW of an image; see `Maps`."""
        return self.maps(image_HWC, spacing_mm).probability_KHW

    def in_windows(
        self,
        image_HWC: Image,
        compute: Callable[[SegmentationNetwork, Tensor], Tensor],
        spacing_mm: Spacing | None = None,
    ) -> Floats:
        """Return map_KHW of what `compute` makes of an image, in the windows of its prediction."""
        if image_HWC.ndim == 4:
            return self._volume_map(partial(self.program.in_windows, compute=compute), image_HWC, spacing_mm)
        return _numpy(self.program.in_windows(self._whole(image_HWC), compute))

    def _volume_map(self, run: Callable[[Tensor], Tensor], image_DHWC: Image, spacing_mm: Spacing | None) -> Floats:
        """Return map_KDHW of what `run` makes of a volume, as the candidate sees it."""
        return volume_map(
            run,
            image_DHWC,
            spacing_mm,
            self.model.input_params,
            full_scale=_full_scale(ImageRows.of(image_DHWC.reshape(-1, *image_DHWC.shape[2:])), self.model.full_scale),
            device=self.device,
            channels=self.program.channels,
        )

    def foreground(self, image_HWC: Image) -> Floats:
        """Compute the foreground probability HW at native size."""
        return foreground_of(self.probability(image_HWC))

    @torch.inference_mode()
    def stretched(self, image_HWC: Image, size: tuple[int, int]) -> Floats:
        """Compute the published evaluation's foreground probability HW: the whole image stretched to `size`."""
        map_Khw = _numpy(self.program.stretched(self._whole(image_HWC), size).clamp(0, 1))
        return foreground_of(map_Khw[: self.model.class_channels])

    def _whole(self, image_HWC: Image) -> Tensor:
        """Return image_BCHW as `_scaled` reads it."""
        return self._scaled(ImageRows.of(image_HWC)).read(0, image_HWC.shape[0])

    def _scaled(self, image: ImageRows) -> Rows:
        """Return rows image_BChW float32 with the candidate's channels, on the device.

        Raises UserError for another kind of image.
        """
        full, channels = _full_scale(image, self.model.full_scale), self.program.channels
        check_channels(image.channels, channels)

        def read(first: int, last: int) -> Tensor:
            return unit_image(image.read(first, last), full, channels).to(self.device)

        return Rows(image.height, image.width, read, self.device)


def whole(strips: Iterator[Maps]) -> Maps:
    """Put strips together."""
    every = list(strips)
    if len(every) == 1:
        return every[0]
    depths = [strip.depth_HW for strip in every if strip.depth_HW is not None]
    probability_KHW = np.concatenate([strip.probability_KHW for strip in every], axis=1)
    return Maps(probability_KHW, np.concatenate(depths) if depths else None)


class Predictor(Probabilities):
    """Probabilities, and the masks and objects that the model makes of them; both `evaluate` and `predict` use it."""

    model: TrainedModel

    @classmethod
    def load(cls, folder: Path, *, device: str | torch.device = "cpu") -> Self:
        """Load a candidate from its folder.

        Raises UserError for a missing file or other weights than model.json names.
        """
        return cls.of(folder, TrainedModel.load(folder), device=device)

    def with_bits(self, uint16_bits: int) -> Self:
        """Return the predictor for 16-bit samples that use so many bits, of a model that has seen none.

        Raises: UserError for a model that knows its bits, or whose images have units of their own.
        """
        known = self.model.full_scale.get("uint16")
        if known is not None or "uint8" not in self.model.full_scale:
            its = f"16-bit samples in which {known:g} counts as 1" if known else "images in units of their own"
            raise UserError(f"--bits: the model was trained on {its}; leave it out")
        full_scale = {**self.model.full_scale, "uint16": 2.0**uint16_bits - 1}
        return type(self)(self.program, self.model.model_copy(update={"full_scale": full_scale}), device=self.device)

    @cached_property
    def instance_params(self) -> InstanceParams:
        """The params by which objects are told apart."""
        return CandidateParams.model_validate(self.model.params).inference.instances

    def mask(self, image_HWC: Image, spacing_mm: Spacing | None = None) -> npt.NDArray[np.uint8]:
        """Return class indices HW of an image, as `decide` finds them."""
        return self.decide(self.probability(image_HWC, spacing_mm))

    def decide(self, probability_KHW: Floats) -> npt.NDArray[np.uint8]:
        """Turn probabilities into class indices HW by the model's rule, threshold and cleaning."""
        return clean_mask(mask_of(probability_KHW, self.model.threshold), self.model.cleaning)

    @property
    def decides_by_pixel(self) -> bool:
        """Whether a pixel's class depends on its own probabilities alone, and no objects are told apart."""
        ruled = self.model.threshold is not None or self.model.class_channels > 1
        return ruled and self.model.cleaning == CleaningParams() and self.instance_params.method == "none"

    def objects(self, mask_HW: npt.NDArray[np.uint8], maps: Maps) -> npt.NDArray[np.int32] | None:
        """Label the objects of a mask, HW, numbered from 1; None where the candidate tells none apart."""
        if self.instance_params.method == "none":
            return None
        return label_objects(mask_HW, maps.probability_KHW, self.instance_params, maps.depth_HW)


def _full_scale(image: ImageRows, full_scale: Mapping[str, float]) -> float:
    """Return the value that counts as 1 in an image. Raises UserError where the model doesn't know it."""
    dtype = image.dtype.name
    if dtype == "uint16" and dtype not in full_scale and "uint8" in full_scale:
        highest, _ = _brightest(image, 0)
        raise UserError(
            f"16-bit samples up to {highest}, but the model has seen 8-bit ones alone, so what counts as white isn't "
            f"known; say how many bits they use: --bits {bits_of(highest)} (batch.bits)"
        )
    if dtype not in full_scale:
        raise UserError(
            f"{dtype} samples, but the model takes {' or '.join(full_scale)}; give it images as in training"
        )
    full = full_scale[dtype]
    if dtype == "uint16":
        highest, beyond = _brightest(image, full)
        if beyond > _BEYOND_SHARE * image.height * image.width * image.channels:
            raise UserError(
                f"16-bit samples up to {highest}, but in the model's training images {full:g} counts as "
                "white; give it images on the same scale"
            )
    return full


def _brightest(image: ImageRows, full: float) -> tuple[int, int]:
    """Return an image's highest value, and how many lie above `full`."""
    highest = beyond = 0
    for first, last in spans(image.height, image.width):
        strip_hWC = image.read(first, last)
        highest, beyond = max(highest, int(strip_hWC.max())), beyond + int(np.count_nonzero(strip_hWC > full))
    return highest, beyond


def _numpy(map_BKHW: Tensor) -> Floats:
    """Return the first map of a batch as a float32 array on the CPU."""
    return np.asarray(map_BKHW[0].cpu().numpy(), np.float32)
