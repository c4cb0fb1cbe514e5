"""Defines the params of a candidate's input: what is done to an image before the network sees it.

The steps, in this order: channels are matched, `clip`, `despeckle`, `denoise_sigma_px`, `clahe` (all four on the whole
native image, where [0, 1] comes out), resizing or patches, augmentation in training, `normalize`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from segops.params.despeckle import DespeckleParams
from segops.params.section import Section
from segops.params.volume_steps import VolumeStepsParams


def _square(value: Any) -> Any:
    return [value, value] if isinstance(value, int) else value


Pair = Annotated[tuple[int, int], BeforeValidator(_square, json_schema_input_type=int | tuple[int, int])]
"""Down and across; one number stands for both."""


class SlicesParams(Section):
    """The slices of volumes that a network for images sees; all are predicted, and scored by volume."""

    axis: Literal["axial", "coronal", "sagittal"] = Field(
        "axial", description="slices across the depth, the height or the width of a volume"
    )
    every: int = Field(1, ge=1, le=1000, description="train and validate epochs on every so manieth slice of a volume")
    empty_share: float = Field(
        1.0, ge=0, le=1, description="share of the training slices without foreground that is kept, evenly spread"
    )

    @property
    def array_axis(self) -> int:
        """The axis of an array DHW that slices lie across."""
        return ("axial", "coronal", "sagittal").index(self.axis)


Spacing = Annotated[float, Field(gt=0, le=1000)]


class ClipParams(Section):
    """What becomes 0 and 1; values beyond are cut off. Either percentiles or a window."""

    percentiles: tuple[float, float] | None = Field(
        None, description="low and high, by channel, such as [0.5, 99.5]; values between them are spread to 0..1"
    )
    over: Literal["image", "foreground"] = Field(
        "image", description="percentiles of each image's own pixels, or of the training images' foreground (nnU-Net)"
    )
    window: tuple[float, float] | None = Field(
        None,
        description="fixed low and high: of int16 and float32 images in the file's units, such as HU; of uint8 and "
        "uint16 ones in shares of full scale",
    )

    @model_validator(mode="after")
    def _either(self) -> ClipParams:
        """Refuse both or neither of percentiles and window, and ends in the wrong order."""
        if (self.percentiles is None) == (self.window is None):
            raise ValueError("clip takes either percentiles or a window; set one of the two")
        low, high = self.percentiles or self.window or (0.0, 1.0)
        if not low < high:
            raise ValueError(f"clip from {low:g} to {high:g}: the first must be the smaller one")
        if self.percentiles and (low < 0 or high > 100):
            raise ValueError(f"percentiles {[low, high]} must lie in 0..100")
        return self


class ClaheParams(Section):
    """Contrast-limited adaptive histogram equalization (Zuiderveld 1994), of each channel by itself, in 256 bins."""

    clip_limit: float = Field(2.0, gt=0, le=256, description="a bin holds at most so many times the mean bin's pixels")
    tiles: Pair = Field((8, 8), description="tiles down and across the image; one number for both")

    @model_validator(mode="after")
    def _some_tiles(self) -> ClaheParams:
        if min(self.tiles) < 1 or max(self.tiles) > 64:
            raise ValueError(f"tiles {list(self.tiles)}: 1..64 down and across")
        return self


class InputParams(Section):
    """What the network sees."""

    size: Annotated[
        tuple[int, int] | tuple[int, int, int],
        BeforeValidator(_square, json_schema_input_type=int | tuple[int, int] | tuple[int, int, int]),
    ] = Field(
        (256, 256),
        description="height and width in pixels, of a patch with resize none; one number for a square; of a network "
        "for volumes depth, height and width of a patch",
    )
    slices: SlicesParams | None = Field(
        None, description="the slices of volumes that a network for images sees; null: the data are pictures"
    )
    spacing_mm: tuple[Spacing, Spacing, Spacing] | None = Field(
        None,
        description="depth, height and width of a voxel that a network for volumes sees: volumes are resampled to it; "
        "null: their own",
    )
    channels: int = Field(
        3,
        ge=1,
        le=64,
        description="1: grey (Rec. 601 luma of RGB); 3: RGB (grey repeated); another number must be the data's",
    )
    volume: VolumeStepsParams | None = Field(
        None,
        description="volumes, before all else: what is done to the whole volume on its own grid; null: nothing",
    )
    clip: ClipParams | None = Field(None, description="1st: what becomes 0 and 1; null: black and full scale")
    despeckle: DespeckleParams | None = Field(
        None, description="2nd: a filter against the grain of ultrasound images; null: none"
    )
    denoise_sigma_px: float = Field(
        0.0, ge=0, le=20, description="3rd: sigma of a Gaussian filter, native pixels; 0: none"
    )
    clahe: ClaheParams | None = Field(None, description="4th: adaptive equalization of the contrast; null: none")
    resize: Literal["stretch", "pad", "none"] = Field(
        "stretch",
        description="pad: keep the aspect ratio, black borders; none: random patches of `size` at native resolution",
    )
    normalize: Literal["unit", "symmetric", "zscore", "zscore_dataset", "imagenet"] = Field(
        "unit",
        description="last: [0, 1]; [-1, 1]; or zero mean and unit deviation by channel, of each image or of all "
        "training images; or ImageNet's mean and deviation",
    )
    window_overlap: float = Field(
        0.25,
        ge=0,
        lt=0.9,
        description="overlap of windows (of native pixels, or of images much larger than training's), share of a side",
    )

    @model_validator(mode="after")
    def _sizes(self) -> InputParams:
        """Refuse sizes out of range, and a normalization that the resizing rules out."""
        low, high = (32, 2048) if len(self.size) == 2 else (4, 512)
        if min(self.size) < low or max(self.size) > high:
            raise ValueError(f"size {list(self.size)}: each side must lie in {low}..{high} pixels")
        if len(self.size) == 3:
            self._check_volumes()
        elif self.spacing_mm is not None:
            raise ValueError("spacing_mm is of patches of volumes; give size three numbers, or set spacing_mm: null")
        if self.resize == "none" and self.normalize == "zscore":
            raise ValueError(
                "normalize zscore needs whole images, resize none shows patches; take zscore_dataset, unit or symmetric"
            )
        return self

    @property
    def of_volumes(self) -> bool:
        """Whether the network sees patches of volumes."""
        return len(self.size) == 3

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width that a network for images sees."""
        assert len(self.size) == 2, "patches of volumes have a depth"
        return self.size

    @property
    def size_in_plane(self) -> tuple[int, int]:
        """Height and width, of patches of volumes too."""
        return (self.size[-2], self.size[-1])

    def _check_volumes(self) -> None:
        """Raise ValueError for what patches of volumes don't have."""
        size = list(self.size)
        if self.slices is not None:
            raise ValueError(
                f"size {size} is of patches of volumes, slices are images; set slices: null, or two numbers"
            )
        if self.resize != "none":
            raise ValueError(f"size {size} is of patches of volumes; set resize: none")
        for name, off in (("clahe", None), ("despeckle", None), ("denoise_sigma_px", 0)):
            if getattr(self, name) != off:
                raise ValueError(f"{name} is for images; with a size of three numbers set {name}: {off or 'null'}")


def takes_channels(present: int, wanted: int) -> bool:
    """Return whether an image of `present` channels can get `wanted`: the same, grey to RGB or RGB to grey."""
    return present == wanted or {present, wanted} == {1, 3}
