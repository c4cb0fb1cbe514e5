"""The params of a candidate: its model, its input (`input_params.py`), its recipe, its inference
(`inference_params.py`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from segops.inference_params import InferenceParams
from segops.input_params import InputParams
from segops.section import Section


class ResUNetParams(Section):
    """Deep residual U-Net, after Zhang et al. 2018."""

    architecture: Literal["resunet"]
    filters: tuple[int, ...] = Field(
        (16, 32, 64, 128, 256), min_length=2, max_length=7, description="channels by level, stem first"
    )
    shortcut_bn: bool = Field(False, description="batch norm on every 1x1 shortcut; false: on the stem's alone")


class UNetParams(Section):
    """U-Net, after Ronneberger et al. 2015, with same padding."""

    architecture: Literal["unet"]
    base_filters: int = Field(64, ge=1, le=256, description="channels of the first level; each level doubles them")
    depth: int = Field(4, ge=1, le=6, description="number of poolings")
    batch_norm: bool = Field(False, description="batch norm after each 3x3 convolution")
    dropout_bottleneck: float = Field(0.0, ge=0, lt=1, description="dropout in the bottleneck")
    dropout_decoder: float = Field(0.0, ge=0, lt=1, description="dropout in each decoder level")


ModelParams = Annotated[ResUNetParams | UNetParams, Field(discriminator="architecture")]


class ConstantSchedule(Section):
    """The learning rate stays."""

    name: Literal["constant"]


class StepSchedule(Section):
    """The learning rate is multiplied by `factor` every `every` epochs."""

    name: Literal["step"]
    every: int = Field(30, ge=1, description="epochs between steps")
    factor: float = Field(0.1, gt=0, lt=1, description="multiplier")


class PlateauSchedule(Section):
    """The learning rate is multiplied by `factor` when `recipe.monitor` stalls for `patience` epochs."""

    name: Literal["plateau"]
    factor: float = Field(0.1, gt=0, lt=1, description="multiplier")
    patience: int = Field(5, ge=0, description="epochs without improvement")
    min_learning_rate: float = Field(1e-7, ge=0, description="never below this")


class CosineSchedule(Section):
    """Half a cosine from the learning rate down to `min_learning_rate`, by step."""

    name: Literal["cosine"]
    min_learning_rate: float = Field(0.0, ge=0, description="where it ends")


class OneCycleSchedule(Section):
    """Up to the learning rate, then down, by step (Smith 2018)."""

    name: Literal["one_cycle"]
    warmup: float = Field(0.3, gt=0, lt=1, description="share of the steps that rise")


ScheduleParams = Annotated[
    ConstantSchedule | StepSchedule | PlateauSchedule | CosineSchedule | OneCycleSchedule, Field(discriminator="name")
]


class AugmentParams(Section):
    """Random changes of a training batch, image and mask together. Ranges are symmetric around no change."""

    flip: bool = Field(True, description="horizontal and vertical flips, each with probability 0.5")
    rot90: bool = Field(True, description="turns by 0, 90, 180 or 270 degrees; square inputs only")
    rotate_deg: float = Field(0.0, ge=0, le=180, description="rotation up to this many degrees")
    scale: float = Field(0.0, ge=0, lt=1, description="zoom by a factor in 1 - scale .. 1 + scale")
    translate: float = Field(0.0, ge=0, lt=1, description="shift up to this share of the side")
    brightness: float = Field(0.0, ge=0, lt=1, description="factor in 1 - brightness .. 1 + brightness")
    contrast: float = Field(0.0, ge=0, lt=1, description="factor in 1 - contrast .. 1 + contrast about the image mean")


class RecipeParams(Section):
    """How a candidate is trained."""

    epochs: int = Field(10, ge=1, le=10_000, description="most passes over the training images")
    batch_size: int = Field(8, ge=1, le=4096, description="images or patches a step, over all devices")
    patches_per_image: int = Field(
        8, ge=1, le=10_000, description="with input.resize none: patches of each training image an epoch"
    )
    foreground_patches: float = Field(
        0.33,
        ge=0,
        le=1,
        description="with input.resize none: share of patches about a foreground pixel, classes in equal parts",
    )
    optimizer: Literal["adam", "adamw"] = Field("adamw", description="AdamW decouples the weight decay")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="peak learning rate")
    weight_decay: float = Field(1e-2, ge=0, le=1, description="adam: L2 penalty; adamw: decoupled decay")
    loss: Literal["bce", "dice", "bce_dice"] = Field("bce_dice", description="training loss")
    dice_weight: float = Field(0.5, ge=0, description="bce_dice: BCE + dice_weight * Dice")
    schedule: ScheduleParams = Field(OneCycleSchedule(name="one_cycle"), description="learning rate over time")
    monitor: Literal["dice", "loss"] = Field("dice", description="validation figure for best, plateau and early stop")
    keep: Literal["best", "last"] = Field("best", description="weights of the best epoch on validation, or the last")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="stop after so many epochs without improvement; null: never"
    )
    ema_decay: float | None = Field(
        0.99, gt=0, lt=1, description="exponential moving average of the weights, by step; null: none"
    )
    precise_bn_images: int | None = Field(
        256,
        ge=1,
        description="training images that batch norm's statistics are taken from before each validation; null: running",
    )
    clip_norm: float | None = Field(1.0, gt=0, description="largest gradient norm; null: no clipping")
    init: Literal["torch", "he", "glorot"] = Field("he", description="initial convolution weights")
    output_bias: float = Field(-1.8, description="initial bias of the output: logit of the expected foreground")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the device computes it natively, else fp32"
    )
    channels_last: bool = Field(True, description="memory layout NHWC")
    augment: AugmentParams = Field(AugmentParams(), description="augmentation of training batches")
    seed: int = Field(0, ge=0, description="initial weights, order of the images, augmentation, dropout")


class MemberParams(Section):
    """A further network of a candidate."""

    model: ModelParams
    input: InputParams = InputParams()
    recipe: RecipeParams = RecipeParams()


class CandidateParams(Section):
    """A model, its input, its recipe and its inference."""

    cross_validation: Literal["none", "scores", "ensemble"] = Field(
        "none",
        description="scores: also train a model a fold of `split.folds`, for out-of-fold scores; ensemble: the mean of "
        "these models is the candidate",
    )
    model: ModelParams
    input: InputParams = InputParams()
    recipe: RecipeParams = RecipeParams()
    inference: InferenceParams = InferenceParams()
    members: tuple[MemberParams, ...] = Field(
        (),
        max_length=15,
        description="further networks, each with `model`, `input` and `recipe`, such as the same with another seed: "
        "the candidate is the mean probability of all",
    )

    @property
    def networks(self) -> list[CandidateParams]:
        """The candidate's networks, each as a candidate of one: its own, then the members'."""
        own = self.model_copy(update={"members": ()})
        return [own, *(own.model_copy(update=dict(one)) for one in self.members)]

    @model_validator(mode="after")
    def _members_fit(self) -> CandidateParams:
        if self.members and self.cross_validation != "none":
            raise ValueError("members and cross_validation don't go together; set cross_validation to none")
        networks = self.networks
        if any(one in networks[:at] for at, one in enumerate(networks)):
            raise ValueError("two networks of a candidate are alike; give a member another recipe.seed")
        if any(one.input.channels != self.input.channels for one in self.members):
            raise ValueError(f"members must see as many channels as the candidate's own input, {self.input.channels}")
        return self
