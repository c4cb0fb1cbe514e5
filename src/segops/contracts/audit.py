"""Defines what audit writes: which test images have a relative in training, and what that is worth."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract, Sha256
from segops.contracts.scores import Interval
from segops.params.section import Value

RELATIVES_FILE = "relatives.csv"

# RELATIVES_FILE: a row per test image and kind of relative, sorted; the closest training image, and how many there are.
RELATIVE_COLUMNS = ("image_id", "group_id", "kind", "relative_id", "evidence", "relatives")


class Worth(Value):
    """What training images that are relatives of test images add to the score on these."""

    candidate: str
    epochs: int = Field(ge=1)
    size_px: tuple[int, int] = Field(description="height and width of the network's input")
    training_images: int = Field(ge=1, description="of each training, the same number")
    test_images: int = Field(ge=1)
    leaky_dice: float
    clean_dice: float
    inflation: Interval = Field(description="Dice with leaks less Dice without, by image, over groups")
    with_relatives: Interval | None = Field(
        None, description="inflation on the test images that have relatives in training; null: none has foreground"
    )
    without_relatives: Interval | None = Field(
        None, description="on the others: what the trainings differ in beside relatives; null: there are none"
    )
    real: bool = Field(description="the interval and a signed-rank test agree that it isn't chance")


class Audit(Contract):
    """audit.json: which test images have a relative in training."""

    FILE: ClassVar[str] = "audit.json"
    dataset: str
    manifest_sha256: Sha256
    split: str = Field(description="the split's file name")
    train_images: int = Field(ge=1)
    test_images: int = Field(ge=1)
    leaking_images: int = Field(ge=0, description="test images with a relative in training")
    by_kind: dict[str, int] = Field(description="test images by the kind of their relatives; one may have several")
    worth: Worth | None = None
