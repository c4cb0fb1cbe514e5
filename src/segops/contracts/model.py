"""Defines what train writes: a model, and how its images reach it."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from segops.contracts.base import Contract, Sha256, Share
from segops.contracts.tuned import TunedValues
from segops.contracts.volumes import Spacing
from segops.files import sha256_lines
from segops.params.colours import HexColour
from segops.params.file_rules import Dimensions, FileRules
from segops.params.inference import CleaningParams
from segops.params.input import InputParams
from segops.params.section import Value
from segops.params.split import SplitProtocol

WEIGHTS_FILE = "weights.safetensors"


class InputStatistics(Value):
    """What a candidate's input steps took from its training images, by channel of the network's input."""

    low: tuple[float, ...] = Field((), description="clip over foreground: what becomes 0; empty without it")
    high: tuple[float, ...] = Field((), description="clip over foreground: what becomes 1")
    mean: tuple[float, ...] = Field((), description="zscore_dataset: over all pixels after the clip; empty without it")
    std: tuple[float, ...] = Field((), description="zscore_dataset")


class FoldModel(Value):
    """A fold's model of a cross-validated candidate; its weights are named `folds.<fold>.<parameter>`."""

    fold: int = Field(ge=0, description="the fold that it has not seen; it was its validation set")
    best_epoch: int = Field(ge=1, description="1-based; the epoch whose weights these are")
    epochs: int = Field(ge=1, description="epochs run")
    input_statistics: InputStatistics | None = None


class MemberModel(Value):
    """A further network of a candidate; the n-th's weights, from 1, are named `members.<n>.<parameter>`."""

    best_epoch: int = Field(ge=1, description="1-based; the epoch whose weights these are")
    epochs: int = Field(ge=1, description="epochs run")
    input_statistics: InputStatistics | None = None


class TrainedWeights(Contract):
    """What a training made and where it is from, before it is decided how probabilities become masks."""

    candidate: str
    key: Sha256 = Field(description="of params, data and code: names the MLflow run")
    checkpoints: list[Sha256] = Field([], description="names of the checkpoint folders, one per training")
    params: dict[str, Any] = Field(description="the candidate's params, as CandidateParams dumps them")
    tuned: TunedValues | None = Field(None, description="which of them a search chose; null: none")
    folds: list[FoldModel] = Field([], description="by fold; empty without cross-validation")
    members: list[MemberModel] = Field(
        [], description="networks beside the candidate's own; the model is the mean of all"
    )
    ensemble: bool = Field(False, description="the model is the mean of the folds' models, and has no weights beside")
    threads: int
    classes: list[str]
    class_colours: list[HexColour]
    best_epoch: int = Field(
        ge=0, description="1-based; the epoch whose weights these are; an ensemble's median; 0: nothing was trained"
    )
    epochs: int = Field(ge=0, description="epochs run; an ensemble's most")
    parameters: int = Field(ge=0, description="trainable")
    weights_sha256: Sha256
    pretrained_sha256: Sha256 | None = Field(None, description="of the file that the encoder started from")
    dataset: str
    source: str
    source_revision: str | None = None
    source_sha256: Sha256
    licence: str
    protocol: SplitProtocol
    manifest_sha256: Sha256
    assignment_sha256: Sha256
    test_sha256: Sha256
    full_scale: dict[str, float] = Field(description="the value that counts as 1, by dtype that the model takes")
    files: FileRules = Field(FileRules(), description="as of dataset.json: `predict` reads files the same way")
    stack: list[str] = Field([], description="as of dataset.json: stems of a channel's files may end so in `predict`")
    input_statistics: InputStatistics | None = Field(None, description="null: the input's steps need none")
    train_images: int = Field(ge=1, description="of the training subset; an ensemble's folds share train and val")
    train_groups: int = Field(ge=1)
    train_modalities: dict[str, int] = Field(description="training images by modality")
    dimensions: Dimensions = Field(2, description="2: an image is a picture, 3: a volume")
    train_depth_px: tuple[int, int] = Field(
        (1, 1), description="median and largest native depth of training volumes; 1 of pictures"
    )
    train_spacing_mm: Spacing | None = Field(
        None, description="median along depth, height and width of training volumes; null: unknown, or pictures"
    )
    train_height_px: tuple[int, int] = Field(description="median and largest native height of training images")
    train_width_px: tuple[int, int] = Field(description="median and largest native width of training images")

    @property
    def train_px(self) -> tuple[tuple[int, int], ...]:
        """Median and largest side of training images along height and width, of volumes along depth before them."""
        sides = (self.train_depth_px, self.train_height_px, self.train_width_px)
        return sides if self.dimensions == 3 else sides[1:]

    @property
    def input_params(self) -> InputParams:
        """How the candidate sees images."""
        return InputParams.model_validate(self.params["input"])

    @property
    def class_channels(self) -> int:
        """The number of probabilities that a pixel has: foreground's of two classes, else each class's."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    @property
    def object_channel(self) -> bool:
        """Whether the program gives, after them, how deep in its object a pixel is, or the object's number."""
        own = self.params.get("inference", {}).get("instances", {}).get("method") == "own"
        return own or self.params.get("objects") is not None


class TrainedModel(TrainedWeights):
    """model.json: all that is needed, beside weights.safetensors, to use a candidate and to say where it is from."""

    FILE: ClassVar[str] = "model.json"
    rule: Literal["argmax", "otsu", "fixed", "best_dice", "roc", "pr"] = Field(
        description="how probabilities become classes: the likeliest of several; or above a threshold: an image's own "
        "by Otsu, a given threshold, or a threshold chosen on validation"
    )
    threshold: float | None = Field(ge=0, le=1, description="on foreground probability; null: rule argmax or otsu")
    cleaning: CleaningParams = Field(description="what is done to masks afterwards, as given or as found on validation")
    val_dice: Share = Field(
        description="mean Dice at native size with rule and cleaning, on validation; of an ensemble out of fold"
    )
    gflops: float | None = Field(
        None, ge=0, description="of an image of the training images' median size; null: counted when it is asked for"
    )

    @property
    def shown_rule(self) -> str:
        """The rule by which probabilities become classes, in words."""
        named = {"argmax": "argmax", "otsu": "Otsu's threshold by image"}
        return named[self.rule] if self.threshold is None else f"threshold {self.threshold:.2f}"

    @property
    def inference_sha256(self) -> str:
        """The hash of all that turns the weights into masks and objects."""
        used = [self.params.get("inference"), self.rule, self.threshold, self.cleaning.model_dump()]
        return sha256_lines([json.dumps(used, sort_keys=True)])

    @model_validator(mode="after")
    def _rule_fits(self) -> TrainedModel:
        """Refuse a rule that the number of classes rules out, or a threshold where the rule has none."""
        if (self.rule == "argmax") != (len(self.classes) > 2):
            raise ValueError(
                f"argmax is the rule of several classes alone, not of {len(self.classes)} with {self.rule}"
            )
        if (self.threshold is None) != (self.rule in ("argmax", "otsu")):
            raise ValueError(f"rule {self.rule} doesn't go with threshold {self.threshold}")
        return self
