"""Defines the losses of a recipe, `recipe.loss`: several kinds, by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from segops.params.section import Section

ClassWeights = Annotated[
    Literal["inverse_frequency"] | tuple[Annotated[float, Field(ge=0)], ...] | None,
    Field(
        description="factors of the classes' pixels, background first; inverse_frequency: by their share of "
        "the training pixels, 1 on average; null: none"
    ),
]
LabelSmoothing = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="share of each pixel's target that is spread evenly over the classes, or over the two values of a "
        "sigmoid",
    ),
]
Smooth = Annotated[float, Field(gt=0, description="added to numerator and denominator of Dice")]
Squared = Annotated[bool, Field(description="squared probabilities in Dice's denominator (Milletari et al. 2016)")]
Over = Annotated[
    Literal["image", "batch"],
    Field(
        description="what an overlap is taken of: each image, then averaged; or all pixels of the batch, so that an "
        "image without foreground is no case of its own (nnU-Net's batch Dice)"
    ),
]
Factor = Annotated[float, Field(ge=0, description="factor of this part")]
Gamma = Annotated[float, Field(ge=0, le=10, description="how much sure pixels count less; 0: not at all")]


def _require_a_part(first: float, second: float, names: str) -> None:
    """Raise ValueError where both weights of a loss are 0."""
    if first == second == 0:
        raise ValueError(f"{names} are both 0, which leaves no loss; raise one")


class BCELoss(Section):
    """Binary cross entropy, averaged over sigmoid channels; under a softmax its cross entropy. A mean over pixels."""

    name: Literal["bce"]
    class_weights: ClassWeights = None
    label_smoothing: LabelSmoothing = 0.0


class DiceLoss(Section):
    """1 - soft Dice of each image (or of the batch) and class, averaged."""

    name: Literal["dice"]
    over: Over = "image"
    smooth: Smooth = 1e-5
    squared: Squared = False


class BCEDiceLoss(Section):
    """bce_weight * BCE + dice_weight * Dice."""

    name: Literal["bce_dice"]
    bce_weight: Factor = 1.0
    dice_weight: Factor = 0.5
    class_weights: ClassWeights = None
    label_smoothing: LabelSmoothing = 0.0
    over: Over = "image"
    smooth: Smooth = 1e-5
    squared: Squared = False

    @model_validator(mode="after")
    def _some_loss(self) -> BCEDiceLoss:
        _require_a_part(self.bce_weight, self.dice_weight, "bce_weight and dice_weight")
        return self


class GeneralizedDiceLoss(Section):
    """Dice over all classes of an image, background too, each weighted by 1 / its pixels squared (Sudre 2017)."""

    name: Literal["generalized_dice"]
    smooth: Smooth = 1e-8


class FocalLoss(Section):
    """Cross entropy times (1 - probability of the right class) ** gamma (Lin et al. 2017).

    Their alpha of 0.25 is `class_weights: [0.75, 0.25]`.
    """

    name: Literal["focal"]
    gamma: Gamma = 2.0
    class_weights: ClassWeights = None


class DiceFocalLoss(Section):
    """focal_weight * focal + dice_weight * Dice."""

    name: Literal["dice_focal"]
    focal_weight: Factor = 1.0
    dice_weight: Factor = 1.0
    gamma: Gamma = 2.0
    class_weights: ClassWeights = None
    over: Over = "image"
    smooth: Smooth = 1e-5
    squared: Squared = False

    @model_validator(mode="after")
    def _some_loss(self) -> DiceFocalLoss:
        _require_a_part(self.focal_weight, self.dice_weight, "focal_weight and dice_weight")
        return self


class TverskyLoss(Section):
    """1 - TP / (TP + alpha FP + beta FN) of each image and class, averaged (Salehi et al. 2017)."""

    name: Literal["tversky"]
    alpha: float = Field(0.3, ge=0, le=1, description="weight of false positives")
    beta: float = Field(0.7, ge=0, le=1, description="weight of false negatives; alpha = beta = 0.5 is Dice")
    over: Over = "image"
    smooth: Smooth = 1e-5

    @model_validator(mode="after")
    def _some_loss(self) -> TverskyLoss:
        _require_a_part(self.alpha, self.beta, "alpha and beta")
        return self


class BoundaryBCELoss(Section):
    """BCE whose background pixels count more between objects: class weight + w0 exp(-(d1 + d2)^2 / (2 sigma^2)).

    d1 and d2 are the distances to the nearest and the second nearest object (Ronneberger et al. 2015, equation 2).
    Objects are those of the source; where it tells none apart, the connected components of each foreground class.
    """

    name: Literal["boundary_bce"]
    w0: float = Field(10.0, ge=0, description="weight added where two objects touch")
    sigma_px: float = Field(5.0, gt=0, le=50, description="how far it reaches, in pixels as the network sees them")
    class_weights: ClassWeights = None
    label_smoothing: LabelSmoothing = 0.0


class DiceBoundaryLoss(Section):
    """dice_weight * Dice + boundary_weight * the mean of probability times signed distance (Kervadec et al. 2019).

    The distance is a pixel's to the border of a foreground class, below 0 inside: in pixels, of volumes in the smallest
    side of `input.spacing_mm`. The authors raise its weight by 0.01 an epoch; here it is constant.
    """

    name: Literal["dice_boundary"]
    dice_weight: Factor = 1.0
    boundary_weight: Factor = 0.01
    over: Over = "image"
    smooth: Smooth = 1e-5
    squared: Squared = False

    @model_validator(mode="after")
    def _some_overlap(self) -> DiceBoundaryLoss:
        """Refuse the distances alone: an image without the class would teach nothing."""
        if self.dice_weight == 0:
            raise ValueError("dice_weight is 0, but signed distances need an overlap beside them; raise it")
        return self


LossParams = Annotated[
    BCELoss
    | DiceLoss
    | BCEDiceLoss
    | GeneralizedDiceLoss
    | FocalLoss
    | DiceFocalLoss
    | TverskyLoss
    | BoundaryBCELoss
    | DiceBoundaryLoss,
    Field(discriminator="name"),
]
