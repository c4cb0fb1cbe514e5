"""The files that pass between stages and belong to candidates: what a search found, models and their judgement."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from segops.class_colours import HexColour
from segops.contracts import Contract, Sha256, Share
from segops.errors import UserError
from segops.files import sha256_lines, write_text
from segops.params.inference import CleaningParams
from segops.scores import PairedDifference, PublishedScores, Standing, SubgroupDifference, SubsetScores
from segops.section import Value

WEIGHTS_FILE = "weights.safetensors"


class Gain(Value):
    """Validation Dice of tuned values and of the candidate's own, each seed once."""

    seeds: list[int] = Field(min_length=1)
    best: list[Share] = Field(description="with the best trial's values, by seed")
    default: list[Share] = Field(description="with the candidate's own, by seed")

    @property
    def differences(self) -> list[float]:
        """Best minus default, by seed."""
        return [best - default for best, default in zip(self.best, self.default, strict=True)]

    @property
    def mean(self) -> float:
        """Of the differences."""
        return math.fsum(self.differences) / len(self.seeds)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the differences (n - 1); None for one seed."""
        return statistics.stdev(self.differences) if len(self.seeds) > 1 else None


class TunedCandidate(Value):
    """What a search found for one candidate."""

    schema_version: Literal[1] = 1
    values: dict[str, Any] = Field(description="by dotted path, to put into the candidate's params; may be none")
    study: str
    trial: int = Field(ge=0, description="the trial that the values are of; 0: the candidate as it is")
    score: Share = Field(description="that trial's validation Dice")
    default_score: Share | None = Field(description="the defaults' validation Dice in trial 0; null: it failed")
    milliseconds: float | None = Field(None, description="an image, where that was an objective")
    gain: Gain | None = Field(None, description="null: the defaults were best, or confirm_seeds is 0")
    rejected: int | None = Field(None, description="a trial that scored higher, but didn't lead over the seeds")


class Tuned(Value):
    """best.yaml: tuned values by candidate; null, written `{}`, for one that isn't searched.

    Not a `Contract`: its keys are the candidates, so that dvc.yaml can name one candidate's part.
    """

    FILE: ClassVar[str] = "best.yaml"
    candidates: dict[str, TunedCandidate | None]

    @classmethod
    def load(cls, folder: Path) -> Tuned:
        """Read `folder/best.yaml`. Raises UserError when it is missing or doesn't fit."""
        path = folder / cls.FILE
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
            return cls(candidates={name: part or None for name, part in raw.items()})
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; run `segops tune` first (`dvc repro`)") from None
        except (ValidationError, yaml.YAMLError, AttributeError):
            raise UserError(f"{path}: not what `segops tune` writes; delete it and run `segops tune` again") from None

    def save(self, folder: Path) -> None:
        """Write `folder/best.yaml` atomically."""
        parts = {name: {} if one is None else one.model_dump(mode="json") for name, one in self.candidates.items()}
        write_text(folder / self.FILE, yaml.safe_dump(parts, sort_keys=False))

    def of(self, candidate: str, folder: Path) -> TunedCandidate | None:
        """A candidate's part; UserError where the file doesn't know the candidate."""
        if candidate not in self.candidates:
            raise UserError(f"{folder / self.FILE} doesn't have candidate '{candidate}'; run `segops tune` again")
        return self.candidates[candidate]


class TunedValues(Value):
    """Where a model's tuned params come from."""

    study: str
    trial: int
    values: dict[str, Any]


class InputStatistics(Value):
    """What a candidate's input steps took from its training images, by channel of the network's input."""

    low: tuple[float, ...] = Field((), description="clip over foreground: what becomes 0; empty without it")
    high: tuple[float, ...] = Field((), description="clip over foreground: what becomes 1")
    mean: tuple[float, ...] = Field((), description="zscore_dataset: over all pixels after the clip; empty without it")
    std: tuple[float, ...] = Field((), description="zscore_dataset")


class FoldModel(Value):
    """One of a cross-validated candidate's models; its weights are named `folds.<fold>.<parameter>`."""

    fold: int = Field(ge=0, description="that it has not seen; it was its validation set")
    best_epoch: int = Field(ge=1, description="1-based; the epoch whose weights these are")
    epochs: int = Field(ge=1, description="epochs run")
    input_statistics: InputStatistics | None = None


class MemberModel(Value):
    """A further network of a candidate; the n-th one's weights, from 1, are named `members.<n>.<parameter>`."""

    best_epoch: int = Field(ge=1, description="1-based; the epoch whose weights these are")
    epochs: int = Field(ge=1, description="epochs run")
    input_statistics: InputStatistics | None = None


class TrainedWeights(Contract):
    """What a training made and where it is from, before it is decided how probabilities become masks."""

    candidate: str
    key: Sha256 = Field(description="of params, data and code: names the MLflow run")
    checkpoints: list[Sha256] = Field([], description="names of the checkpoint folders, one a training")
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
    best_epoch: int = Field(ge=1, description="1-based; the epoch whose weights these are; an ensemble's median")
    epochs: int = Field(ge=1, description="epochs run; an ensemble's most")
    parameters: int = Field(ge=1, description="trainable")
    weights_sha256: Sha256
    pretrained_sha256: Sha256 | None = Field(None, description="of the file that the encoder started from")
    dataset: str
    source: str
    source_revision: str | None = None
    source_sha256: Sha256
    licence: str
    protocol: Literal["grouped", "published"]
    manifest_sha256: Sha256
    assignment_sha256: Sha256
    test_sha256: Sha256
    full_scale: dict[str, float] = Field(description="the value that counts as 1, by dtype that the model takes")
    stack: list[str] = Field([], description="as of dataset.json: stems of a channel's files may end so in `predict`")
    input_statistics: InputStatistics | None = Field(None, description="null: the input's steps need none")
    train_images: int = Field(ge=1, description="of the training subset; an ensemble's folds share train and val")
    train_groups: int = Field(ge=1)
    train_modalities: dict[str, int] = Field(description="training images by modality")
    train_height_px: tuple[int, int] = Field(description="median and largest native height of training images")
    train_width_px: tuple[int, int] = Field(description="median and largest native width of training images")


class TrainedModel(TrainedWeights):
    """model.json: all that is needed, beside weights.safetensors, to use a candidate and to say where it is from."""

    FILE: ClassVar[str] = "model.json"
    rule: Literal["argmax", "otsu", "fixed", "best_dice", "roc", "pr"] = Field(
        description="how probabilities become classes: the likeliest of several; or above a threshold: an image's own "
        "by Otsu, a given one, or one chosen on validation"
    )
    threshold: float | None = Field(ge=0, le=1, description="on foreground probability; null: rule argmax or otsu")
    cleaning: CleaningParams = Field(description="what is done to masks afterwards, as given or as found on validation")
    val_dice: Share = Field(
        description="mean Dice at native size with rule and cleaning, on validation; of an ensemble out of fold"
    )

    @property
    def shown_rule(self) -> str:
        """How probabilities become classes, as a reader sees it."""
        named = {"argmax": "argmax", "otsu": "Otsu's threshold by image"}
        return named[self.rule] if self.threshold is None else f"threshold {self.threshold:.2f}"

    @property
    def inference_sha256(self) -> str:
        """One hash of all that turns the weights into masks and objects."""
        used = [self.params.get("inference"), self.rule, self.threshold, self.cleaning.model_dump()]
        return sha256_lines([json.dumps(used, sort_keys=True)])

    @model_validator(mode="after")
    def _rule_fits(self) -> TrainedModel:
        if (self.rule == "argmax") != (len(self.classes) > 2):
            raise ValueError(
                f"argmax is the rule of several classes alone, not of {len(self.classes)} with {self.rule}"
            )
        if (self.threshold is None) != (self.rule in ("argmax", "otsu")):
            raise ValueError(f"rule {self.rule} doesn't go with threshold {self.threshold}")
        return self


# ------------------------------------------------------------------------------------------------------- evaluation


class Evaluation(Contract):
    """metrics.json: how good, how sure."""

    FILE: ClassVar[str] = "metrics.json"
    candidate: str
    key: Sha256
    weights_sha256: Sha256
    test_sha256: Sha256
    protocol: Literal["grouped", "published"]
    classes: list[str] = Field(min_length=2)
    threshold: float | None = Field(description="null: the likeliest of several classes, or Otsu's of each image")
    confidence: float
    val: SubsetScores
    test: SubsetScores
    out_of_fold: SubsetScores | None = Field(
        None, description="cross-validation: each image outside test, by the model that hasn't seen its fold"
    )
    published: PublishedScores | None = Field(None, description="test, under the published protocol alone")

    @property
    def shown_classes(self) -> list[str]:
        """The foreground classes that are shown one by one: none of two classes, whose scores are the image's."""
        return self.classes[1:] if len(self.classes) > 2 else []

    @property
    def subsets(self) -> dict[str, SubsetScores]:
        """Scores by name: val, test, and out_of_fold where there is cross-validation."""
        return {"val": self.val, "test": self.test} | ({"out_of_fold": self.out_of_fold} if self.out_of_fold else {})

    @model_validator(mode="after")
    def _one_set_of_classes(self) -> Evaluation:
        for scores in self.subsets.values():
            sides = {len(scores.confusion), *(len(row) for row in scores.confusion)}
            if list(scores.by_class) != self.shown_classes or sides != {len(self.classes)}:
                raise ValueError(f"by_class and confusion must be of the classes {', '.join(self.classes)}")
        return self


class Noise(Contract):
    """noise.json: how far a candidate's validation Dice moves when nothing but the seed changes."""

    FILE: ClassVar[str] = "noise.json"
    candidate: str
    key: Sha256 = Field(description="of the candidate's model")
    seeds: list[int] = Field(min_length=2, description="of its own network; the first is the candidate's")
    val_dice: list[Share] = Field(description="by seed")
    deviation: float = Field(ge=0, description="standard deviation (n - 1)")
    floor: float = Field(ge=0, description="two trainings that differ by their seed alone lie closer in 95 % of cases")

    @model_validator(mode="after")
    def _a_dice_a_seed(self) -> Noise:
        if len(self.seeds) != len(self.val_dice) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"{len(self.seeds)} seeds and {len(self.val_dice)} scores: each seed stands once")
        return self


class Registration(Contract):
    """registration.json: a model version with its lineage, or the floor it missed."""

    FILE: ClassVar[str] = "registration.json"
    candidate: str
    key: Sha256
    weights_sha256: Sha256
    registered: bool
    reason: str | None = Field(None, description="the floor that was missed")
    model_name: str
    version: int | None = None
    git_commit: str | None = Field(None, description="that the run was made at; null: not known")
    git_dirty: bool | None = Field(None, description="whether files differed from it")


class Comparison(Contract):
    """comparison.json: which candidate leads, and is the lead real. Ranked on validation; test is shown."""

    FILE: ClassVar[str] = "comparison.json"
    test_sha256: Sha256
    protocol: Literal["grouped", "published"]
    confidence: float
    decision: str = Field(description="what to do, in one sentence: `comparison.verdict.decision`")
    standings: list[Standing] = Field(min_length=1)
    differences: list[PairedDifference] = Field(description="every pair, the higher ranked one first")
    subgroup_margin: float
    subgroups: list[SubgroupDifference] = Field(description="the leader against each other candidate")
    challenger: str | None = Field(description="the best registered candidate; it got the alias")
