"""Defines how a candidate is trained: loss, optimizer, schedule, augmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from segops.params.augment import AugmentParams
from segops.params.loss import BCEDiceLoss, LossParams
from segops.params.section import Section


class ConstantSchedule(Section):
    """The learning rate stays."""

    name: Literal["constant"]


class StepSchedule(Section):
    """The learning rate is multiplied by `factor` every `every` epochs."""

    name: Literal["step"]
    every: int = Field(30, ge=1, description="epochs between steps")
    factor: float = Field(0.1, gt=0, lt=1, description="multiplier")


class ExponentialSchedule(Section):
    """The learning rate is multiplied by `factor` every epoch."""

    name: Literal["exponential"]
    factor: float = Field(0.95, gt=0, lt=1, description="multiplier")


class PolySchedule(Section):
    """The learning rate times (1 - epoch / epochs) ** `power`, by epoch (Chen et al. 2018; nnU-Net's)."""

    name: Literal["poly"]
    power: float = Field(0.9, gt=0, le=5, description="1: a straight line down")


class PlateauSchedule(Section):
    """The learning rate is multiplied by `factor` after `patience` epochs in which `recipe.monitor` didn't improve,
    counted as by `early_stopping_patience`."""

    name: Literal["plateau"]
    factor: float = Field(0.1, gt=0, lt=1, description="multiplier")
    patience: int = Field(5, ge=1, description="epochs without improvement; any gain is one")
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
    ConstantSchedule
    | StepSchedule
    | ExponentialSchedule
    | PolySchedule
    | PlateauSchedule
    | CosineSchedule
    | OneCycleSchedule,
    Field(discriminator="name"),
]


class RecipeParams(Section):
    """How a candidate is trained."""

    epochs: int = Field(10, ge=1, le=10_000, description="most passes over the training images")
    small_epochs: int = Field(
        0,
        ge=0,
        description="first epochs, in which training images have half their height and width and cost a quarter "
        "(Tan and Le 2021); pictures alone",
    )
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
    foreground_images: float = Field(
        0.0,
        ge=0,
        le=1,
        description="with input.resize stretch or pad: share of an epoch's images that is drawn anew among those with "
        "foreground, classes in equal parts",
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adamw", description="AdamW decouples the weight decay")
    momentum: float = Field(0.99, ge=0, lt=1, description="sgd: Nesterov momentum")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="peak learning rate")
    weight_decay: float = Field(
        1e-2, ge=0, le=1, description="adamw: decoupled decay; adam, sgd: weight_decay * weight joins the gradient"
    )
    l1: float = Field(0.0, ge=0, le=1, description="penalty: l1 times the sum of absolute weights; in the gradient")
    l2: float = Field(0.0, ge=0, le=1, description="penalty: l2 times the sum of squared weights; in the gradient")
    decay_norms_and_biases: bool = Field(
        True, description="weight_decay, l1 and l2 act on parameters of one dimension too: norms and biases"
    )
    loss: LossParams = Field(BCEDiceLoss(name="bce_dice"), description="training loss")
    deep_supervision_weights: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...] | None, Field(min_length=1, max_length=8)
    ] = Field(
        None,
        description="factors of the losses of a network with deep supervision, the finest output first; they are "
        "normalized to sum 1; null: 1, 1/2, 1/4, ...",
    )
    schedule: ScheduleParams = Field(OneCycleSchedule(name="one_cycle"), description="learning rate over time")
    warmup_epochs: int = Field(
        0, ge=0, description="linear rise, by step, to where the schedule begins; the schedule has the other epochs"
    )
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
        "auto", description="auto: bf16 where the device computes it natively and faster, else fp32"
    )
    channels_last: bool = Field(True, description="memory layout NHWC")
    augment: AugmentParams = Field(AugmentParams(), description="augmentation of training batches")
    gradcam_every: int | None = Field(
        None,
        ge=1,
        description="epochs between GradCAM panels of four validation images, as files and in MLflow; null: none",
    )
    seed: int = Field(0, ge=0, description="initial weights, order of the images, augmentation, dropout")

    @model_validator(mode="after")
    def _prediction_is_supervised(self) -> RecipeParams:
        if self.deep_supervision_weights is not None and self.deep_supervision_weights[0] == 0:
            raise ValueError("deep_supervision_weights starts with 0, but its first output predicts; raise that factor")
        return self

    @model_validator(mode="after")
    def _ends_at_full_size(self) -> RecipeParams:
        """Refuse to train on small images alone."""
        if self.small_epochs >= self.epochs:
            raise ValueError(
                f"small_epochs is {self.small_epochs} of {self.epochs} epochs, which leaves none at the size of "
                "predictions; lower it, or raise epochs"
            )
        return self

    @model_validator(mode="after")
    def _epochs_after_warmup(self) -> RecipeParams:
        """Refuse a warm-up that leaves no epoch."""
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs} of {self.epochs} epochs, which leaves none to the schedule; "
                "lower it, or raise epochs"
            )
        return self
