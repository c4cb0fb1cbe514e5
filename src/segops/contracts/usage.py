"""Defines the files that come of using a model: its exports, what it was made for, and whether new images are alike."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from segops.contracts.base import Contract, Sha256, Share
from segops.params.section import Value

ExportFormat = Literal["onnx", "int8", "openvino", "openvino_int8", "tensorrt"]


class ExportedFile(Value):
    """A format that was written, judged on validation images beside torch."""

    format: Literal["torch"] | ExportFormat
    device: Literal["cpu", "cuda"]
    file: str | None = Field(description="beside export.json; null: torch, which was there")
    size_mib: float = Field(ge=0, description="of all its files")
    milliseconds: float = Field(ge=0, description="median of images")
    speed: float = Field(ge=0, description="times torch's on the same device; above 1 is faster")
    dice: Share = Field(description="mean of images")
    dice_loss: float = Field(description="torch's Dice minus its")
    difference: float = Field(ge=0, description="largest, of a probability from torch's")
    passed: bool = Field(description="within the tolerance, or of int8 within the Dice loss")
    note: str = Field("", description="what was done to it")


class SkippedFormat(Value):
    """A format that this machine can't make."""

    format: ExportFormat
    reason: str


class Export(Contract):
    """export.json: the formats of a model, each with size, time and loss."""

    FILE: ClassVar[str] = "export.json"
    candidate: str
    key: Sha256
    weights_sha256: Sha256
    model_name: str | None = Field(description="the registered model; null: a folder was given")
    version: int | None
    assignment_sha256: Sha256 = Field(description="of the split whose images calibrated and judged")
    calibration_images: int = Field(ge=1, description="of training")
    images: int = Field(ge=1, description="of validation")
    threads: int
    tolerance: float
    max_dice_loss: float
    formats: list[ExportedFile] = Field(min_length=1, description="torch first")
    skipped: list[SkippedFormat]


class Reference(Contract):
    """reference.json: what a model was made for, in distributions of a few features by image.

    A distribution is a list of quantiles, evenly spaced from 0 to 1: of up to 201 images every value.
    """

    FILE: ClassVar[str] = "reference.json"
    candidate: str
    key: Sha256
    weights_sha256: Sha256
    training_images: int = Field(ge=1)
    validation_images: int = Field(ge=1)
    training_groups: int = Field(ge=1, description="that the training images are of")
    validation_groups: int = Field(ge=1)
    of_images: dict[str, list[float]] = Field(description="intensity and colour of training images")
    of_predictions: dict[str, list[float]] = Field(description="foreground and confidence on validation images")


class FeatureDrift(Value):
    """A feature of new images against the reference."""

    name: str
    reference_median: float
    median: float = Field(description="of the new images")
    distance: Share = Field(description="Kolmogorov-Smirnov: the widest gap between the two cumulative shares")
    p: Share | None = Field(description="that chance makes such a gap, with Holm's correction; null: see reason")
    reason: str | None = Field(None, description="why the feature isn't judged")
    shift: float | None = Field(description="Wasserstein distance in deviations of the reference; null: it is constant")
    drifted: bool


class UnusualImage(Value):
    """A new image with features that hardly any image of the reference has."""

    image: str = Field(description="its path below the folder")
    features: list[str] = Field(min_length=1)


class Drift(Contract):
    """drift.json: are new images like those that the model was made for."""

    FILE: ClassVar[str] = "drift.json"
    candidate: str
    weights_sha256: Sha256
    model_name: str | None = Field(description="the registered model; null: a folder was given")
    version: int | None
    images: int = Field(ge=2, description="new images")
    training_images: int
    validation_images: int
    validation_groups: int
    distance: float = Field(description="from which on it counts")
    alpha: float = Field(description="up to which p counts")
    features: list[FeatureDrift] = Field(min_length=1)
    unusual: list[UnusualImage] = Field(description="the most unusual images, most features first")

    @property
    def drifted(self) -> list[str]:
        """The features that drift; none: the images are like those of training."""
        return [feature.name for feature in self.features if feature.drifted]

    @property
    def not_judged(self) -> str | None:
        """What isn't judged, and why; None where all is."""
        reasons: dict[str, list[str]] = {}
        for feature in self.features:
            if feature.reason:
                reasons.setdefault(feature.reason, []).append(feature.name)
        return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items()) or None
