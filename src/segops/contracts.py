"""The files that pass between stages.

Every JSON has a model here, carries `schema_version` and refuses to load when invalid; every table has its columns
here. None of them holds a time, a path of this machine, a host or a run id: those stand in `run.json`.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segops.class_colours import HexColour
from segops.errors import UserError
from segops.files import sha256_lines, write_json, write_text
from segops.inference_params import CleaningParams
from segops.scores import PairedDifference, PublishedScores, Standing, SubsetScores

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Subset = Literal["train", "val", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "val", "test")


class Contract(BaseModel):
    """A JSON file between two stages."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    FILE: ClassVar[str]
    schema_version: Literal[1] = 1

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `folder/FILE`. Raises UserError when it is missing or doesn't fit the schema."""
        path = folder / cls.FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; run the stage that writes it first (`dvc repro`)") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise UserError(f"{path}: {where}: {first['msg']}; delete it and run its stage again") from None

    def save(self, folder: Path) -> None:
        """Write `folder/FILE` atomically."""
        write_json(folder / self.FILE, self.model_dump(mode="json"))


# ---------------------------------------------------------------------------------------------------------- dataset


class Shard(BaseModel):
    """A tar of `<id>.image.png|npy` and `<id>.mask.png|npy` members, sorted, mtime 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    sha256: Sha256
    size_bytes: int = Field(ge=0)
    images: int = Field(ge=1)


class Growth(BaseModel):
    """What a dataset took over from the version that `ingest.base` names."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    base_manifest_sha256: Sha256
    groups_kept: int = Field(ge=0, description="with the same images and masks, in the base's shards")
    groups_changed: int = Field(ge=0)
    groups_new: int = Field(ge=0)
    groups_removed: int = Field(ge=0)
    images_kept: int = Field(ge=0, description="in kept groups")
    images_written: int = Field(ge=0, description="to new shards")
    images_removed: int = Field(ge=0)
    bytes_kept: int = Field(ge=0, description="of the base's shards that stay")
    bytes_written: int = Field(ge=0, description="of new shards")
    bridged_groups: dict[str, list[str]] = Field(
        description="groups of the base that new images show to be one, by the name that they have now"
    )


class FileChange(BaseModel):
    """Something that ingest changed in files."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    change: str
    files: int = Field(ge=1)
    pixels: int = Field(ge=0, description="in all of them")
    named: dict[str, int] = Field(description="pixels of the first files")


class Dataset(Contract):
    """dataset.json: what an example is, and what the data looks like."""

    FILE: ClassVar[str] = "dataset.json"
    name: str
    licence: str
    source: str = Field(description="the source as given in params, without a local folder's path")
    source_revision: str | None = Field(None, description="what names this state of a remote source for good")
    source_sha256: Sha256 = Field(description="hash of the archive, or of the folder's sorted names and contents")
    layout: str
    group_by: str
    classes: list[str] = Field(min_length=2, description="class names by index; 0 is background")
    class_colours: list[HexColour] = Field(description="by class index, for pictures and masks")
    images: int = Field(ge=1)
    groups: int = Field(ge=1)
    modalities: dict[str, int] = Field(description="images by modality")
    sizes: dict[str, int] = Field(description="images by 'HEIGHTxWIDTH', pixels")
    channels: dict[str, int] = Field(description="images by channel count")
    dtypes: dict[str, int] = Field(description="images by sample type")
    class_share: dict[str, Share] = Field(description="share of all pixels by class")
    stack: list[str] = Field([], description="one file a channel: what tells them apart, in order; empty: one an image")
    intensity_percentiles: dict[str, float] = Field(
        description="of per-image means; full scale is 1, but int16 and float32 images have their own units"
    )
    changes: list[FileChange] = Field([], description="stray mask values and alpha channels, by what was done to them")
    growth: Growth | None = Field(None, description="against ingest.base; null without one")
    manifest_sha256: Sha256
    shards: list[Shard] = Field(min_length=1)


# ------------------------------------------------------------------------------------------------------- validation


class Expectation(BaseModel):
    """The outcome of one expectation on the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    severity: Literal["critical", "warning"]
    success: bool
    detail: str = Field(description="what was expected and what was seen, one line")
    failing_ids: list[str] = Field(description="image ids, sorted; empty for a table-wide expectation")


class ValidationReport(Contract):
    """report.json: may this data train a model."""

    FILE: ClassVar[str] = "report.json"
    manifest_sha256: Sha256
    images: int
    success: bool = Field(description="no critical failure")
    expectations: list[Expectation] = Field(min_length=1)


# ------------------------------------------------------------------------------------------------------------ split


class SubsetSummary(BaseModel):
    """What stands in a subset."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    images: int = Field(ge=1)
    groups: int = Field(ge=1)
    modalities: dict[str, int]
    mean_foreground: Share
    sha256: Sha256 = Field(description="of 'image_id image_sha256 mask_sha256' lines, sorted: equal iff the same data")


class Split(Contract):
    """split.json: who is never seen in training.

    A grouped split in which a group stands on two sides can't be constructed.
    """

    FILE: ClassVar[str] = "split.json"
    protocol: Literal["grouped", "published"]
    seed: int
    folds: int
    fold: int | None = Field(None, description="the one that is val; null: val by fractions")
    manifest_sha256: Sha256
    assignment_sha256: Sha256 = Field(description="of split.parquet's rows")
    subsets: dict[Subset, SubsetSummary]
    groups_on_two_sides: int = Field(ge=0)
    images_sharing_a_group_with_train: dict[Literal["val", "test"], int]
    imbalance: float = Field(
        ge=0, description="largest gap between a stratum's share in a subset and the asked one; by fractions"
    )
    advice: str | None = Field(None, description="a better seed, where there is one")

    @property
    def test_sha256(self) -> str:
        """The test set's identity: versions are compared only on the same one."""
        return self.subsets["test"].sha256

    @model_validator(mode="after")
    def _no_leak(self) -> Split:
        if set(self.subsets) != set(SUBSETS):
            raise ValueError(f"subsets must be {SUBSETS}")
        if self.protocol == "grouped" and self.groups_on_two_sides:
            raise ValueError(f"{self.groups_on_two_sides} groups stand on two sides of a grouped split")
        return self


# --------------------------------------------------------------------------------------------------------- prepared


class ChannelIntensities(BaseModel):
    """Values of one channel in training images: on a full scale of 1, or an int16 or float32 image's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    mean: float = Field(description="of all pixels")
    std: float
    foreground_mean: float | None = Field(None, description="of up to 1,000 foreground pixels an image; null: none")
    foreground_std: float | None = None
    foreground_p00_5: float | None = Field(None, description="0.5th percentile")
    foreground_p50: float | None = None
    foreground_p99_5: float | None = None


class Prepared(Contract):
    """prepared.json: native-size pixels to memory-map.

    `images.bin` and `masks.bin` are flat files of C-order arrays, one after another: images HWC in their own dtype
    (little endian), masks HW uint8 class indices. `index.parquet` says where each begins.
    """

    FILE: ClassVar[str] = "prepared.json"
    dataset: str = Field(description="the dataset's name")
    source: str
    source_revision: str | None = None
    source_sha256: Sha256
    licence: str
    classes: list[str]
    class_colours: list[HexColour]
    images: int
    stack: list[str] = Field([], description="as of dataset.json")
    protocol: Literal["grouped", "published"]
    manifest_sha256: Sha256
    assignment_sha256: Sha256
    test_sha256: Sha256
    images_sha256: Sha256
    masks_sha256: Sha256
    intensities: dict[str, list[ChannelIntensities]] = Field(
        {}, description="of training images, by their number of channels, then channel by channel"
    )

    @property
    def sha256(self) -> str:
        """One hash of pixels, masks and assignment: the data part of a candidate's key."""
        return sha256_lines([self.images_sha256, self.masks_sha256, self.assignment_sha256])


# ------------------------------------------------------------------------------------------------------------ model


class Gain(BaseModel):
    """Validation Dice of tuned values and of the candidate's own, each seed once."""

    model_config = ConfigDict(extra="forbid", frozen=True)
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


class TunedCandidate(BaseModel):
    """What a search found for one candidate."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    values: dict[str, Any] = Field(description="by dotted path, to put into the candidate's params; may be none")
    study: str
    trial: int = Field(ge=0, description="the trial that the values are of; 0: the candidate as it is")
    score: Share = Field(description="that trial's validation Dice")
    default_score: Share | None = Field(description="the defaults' validation Dice in trial 0; null: it failed")
    milliseconds: float | None = Field(None, description="an image, where that was an objective")
    gain: Gain | None = Field(None, description="null: the defaults were best, or confirm_seeds is 0")
    rejected: int | None = Field(None, description="a trial that scored higher, but didn't lead over the seeds")


class Tuned(BaseModel):
    """best.yaml: tuned values by candidate; null, written `{}`, for one that isn't searched.

    Not a `Contract`: its keys are the candidates, so that dvc.yaml can name one candidate's part.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
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


class TunedValues(BaseModel):
    """Where a model's tuned params come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    study: str
    trial: int
    values: dict[str, Any]


class InputStatistics(BaseModel):
    """What a candidate's input steps took from its training images, by channel of the network's input."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    low: tuple[float, ...] = Field((), description="clip over foreground: what becomes 0; empty without it")
    high: tuple[float, ...] = Field((), description="clip over foreground: what becomes 1")
    mean: tuple[float, ...] = Field((), description="zscore_dataset: over all pixels after the clip; empty without it")
    std: tuple[float, ...] = Field((), description="zscore_dataset")


class FoldModel(BaseModel):
    """One of a cross-validated candidate's models; its weights are named `folds.<fold>.<parameter>`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    fold: int = Field(ge=0, description="that it has not seen; it was its validation set")
    best_epoch: int = Field(ge=1, description="1-based; the epoch whose weights these are")
    epochs: int = Field(ge=1, description="epochs run")
    input_statistics: InputStatistics | None = None


class MemberModel(BaseModel):
    """A further network of a candidate; the n-th one's weights, from 1, are named `members.<n>.<parameter>`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    best_epoch: int = Field(ge=1, description="1-based; the epoch whose weights these are")
    epochs: int = Field(ge=1, description="epochs run")
    input_statistics: InputStatistics | None = None


class TrainedModel(Contract):
    """model.json: all that is needed, beside weights.safetensors, to use a candidate and to say where it is from."""

    FILE: ClassVar[str] = "model.json"
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
    rule: Literal["argmax", "otsu", "fixed", "best_dice", "roc", "pr"] = Field(
        description="how probabilities become classes: the likeliest of several; or above a threshold: an image's own "
        "by Otsu, a given one, or one chosen on validation"
    )
    threshold: float | None = Field(ge=0, le=1, description="on foreground probability; null: rule argmax or otsu")
    cleaning: CleaningParams = Field(description="what is done to masks afterwards, as given or as found on validation")
    val_dice: Share = Field(
        description="mean Dice at native size with rule and cleaning, on validation; of an ensemble out of fold"
    )
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
    train_height_px: tuple[int, int] = Field(description="median and largest native height of training images")
    train_width_px: tuple[int, int] = Field(description="median and largest native width of training images")

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


class Comparison(Contract):
    """comparison.json: which candidate leads, and is the lead real. Ranked on validation; test is shown."""

    FILE: ClassVar[str] = "comparison.json"
    test_sha256: Sha256
    protocol: Literal["grouped", "published"]
    confidence: float
    standings: list[Standing] = Field(min_length=1)
    differences: list[PairedDifference]
    challenger: str | None = Field(description="the best registered candidate; it got the alias")
