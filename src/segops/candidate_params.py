"""The params of a candidate: its model, its input, its recipe, its inference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from segops.inference_params import InferenceParams
from segops.model_params import ModelParams
from segops.recipe_params import RecipeParams
from segops.section import Section


def _square(value: Any) -> Any:
    return [value, value] if isinstance(value, int) else value


class InputParams(Section):
    """What the network sees."""

    size: Annotated[tuple[int, int], BeforeValidator(_square)] = Field(
        (256, 256), description="height and width in pixels, of a patch with resize none; one number for a square"
    )
    channels: Literal[1, 3] = Field(3, description="1: grey (Rec. 601 luma of RGB); 3: RGB (grey repeated)")
    resize: Literal["stretch", "pad", "none"] = Field(
        "stretch",
        description="pad: keep the aspect ratio, black borders; none: random patches of `size` at native resolution",
    )
    normalize: Literal["unit", "symmetric", "zscore", "imagenet"] = Field(
        "unit",
        description="[0, 1], [-1, 1], zero mean and unit deviation by image and channel, or by ImageNet's statistics",
    )
    window_overlap: float = Field(
        0.25,
        ge=0,
        lt=0.9,
        description="overlap of windows (of native pixels, or of images much larger than training's), share of a side",
    )

    @model_validator(mode="after")
    def _sizes(self) -> InputParams:
        if min(self.size) < 32 or max(self.size) > 2048:
            raise ValueError(f"size {list(self.size)}: each side must lie in 32..2048 pixels")
        if self.resize == "none" and self.normalize == "zscore":
            raise ValueError("normalize zscore needs whole images, resize none shows patches; take unit or symmetric")
        return self


class CandidateParams(Section):
    """A model, its input, its recipe and its inference."""

    model: ModelParams
    input: InputParams = InputParams()
    recipe: RecipeParams = RecipeParams()
    inference: InferenceParams = InferenceParams()

    @model_validator(mode="after")
    def _fits_the_images(self) -> CandidateParams:
        if self.recipe.augment.stain and self.input.channels != 3:
            raise ValueError(f"recipe.augment.stain changes colours, input.channels is {self.input.channels}; set it 0")
        if self.recipe.foreground_images and self.input.resize == "none":
            raise ValueError("recipe.foreground_images is for whole images; with resize none set foreground_patches")
        return self
