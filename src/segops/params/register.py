"""Defines what a candidate must reach to become a version, and what is typed by hand into its card."""

from __future__ import annotations

from pydantic import Field

from segops.params.section import Fraction, Section


class Floors(Section):
    """Scores on validation below which a candidate isn't registered."""

    dice: Fraction = Field(0.5, description="lowest mean Dice on validation")
    iou: Fraction = Field(0.3, description="lowest mean IoU on validation")


class CardParams(Section):
    """What a model card says that no file knows. The texts are markdown."""

    intended_use: str = Field(
        "Research and development: measuring and comparing segmentation on images like those of the test set.",
        min_length=1,
        description="what the model is for, and for whom",
    )
    limits: str = Field(
        "Not for diagnosis or treatment. Other stains, instruments, magnifications or species than those of the "
        "training images need a test of their own before use.",
        min_length=1,
        description="what the model is not for, and what nobody has tested",
    )
    contact: str | None = Field(None, description="who answers questions about the model")


class RegisterParams(Section):
    """What a candidate needs to become a model version: floors, and texts for its card."""

    floors: Floors = Floors()
    card: CardParams = CardParams()
