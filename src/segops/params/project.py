"""params.yaml as typed models: defaults, units, ranges; unknown keys are refused with the nearest right one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from segops.errors import UserError
from segops.explain import explain
from segops.params.batch import BatchParams
from segops.params.candidate import CandidateParams
from segops.params.drift import DriftParams
from segops.params.export import ExportParams
from segops.params.ingest import IngestParams
from segops.params.kubeflow import KubeflowParams
from segops.params.promote import PromoteParams
from segops.params.tune import TuneParams
from segops.search_space import check_search
from segops.section import Fraction, Section

CHANNEL = "{channel}"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class RuntimeParams(Section):
    """What the machine lends to a stage."""

    threads: int = Field(2, ge=1, le=256, description="CPU threads of torch; another number changes weights")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="where networks run; auto takes cuda, else mps, where there is one"
    )
    devices: int = Field(1, ge=1, le=64, description="GPUs that share a training's batches; with device cpu: processes")
    checkpoint_root: str = Field(".segops/checkpoints", description="folder of checkpoints, relative to the project")
    cache_root: str = Field(".segops/cache", description="folder of derived arrays, relative to the project")


class ValidateParams(Section):
    """May this data train a model. Fractions are of images unless said otherwise."""

    min_images: int = Field(10, ge=1, description="fewest images")
    min_groups: int = Field(3, ge=3, description="fewest groups: one a subset")
    min_size_px: int = Field(32, ge=1, description="shortest allowed image side, pixels")
    max_size_px: int = Field(16384, ge=1, description="longest allowed image side, pixels")
    channels: list[int] = Field([1, 3], min_length=1, description="allowed channel counts")
    dtypes: list[Literal["uint8", "uint16", "int16", "float32"]] = Field(
        ["uint8", "uint16"], min_length=1, description="allowed types; int16 and float32 hold units of their own"
    )
    min_intensity_std: float = Field(1e-3, ge=0, description="below it an image is constant; full scale is 1")
    allow_empty_masks: bool = Field(False, description="true: an image without foreground is no warning")
    allow_full_masks: bool = Field(False, description="true: an image without background is no warning")
    foreground: tuple[Fraction, Fraction] = Field((0.001, 0.9), description="usual range of the foreground fraction")
    foreground_mostly: Fraction = Field(0.95, description="share of images that must lie in `foreground`")
    mean_foreground: tuple[Fraction, Fraction] = Field((0.005, 0.8), description="range of the mean foreground")
    max_saturated: Fraction = Field(0.5, description="largest share of saturated pixels in an image")
    max_group_share: Fraction = Field(0.5, description="largest share of the images in one group")


class SplitParams(Section):
    """Who is never seen in training."""

    protocol: Literal["grouped", "published"] = Field(
        "grouped", description="grouped: no group on two sides; published: train_test_split twice on sorted ids"
    )
    fractions: tuple[Fraction, Fraction, Fraction] = Field((0.70, 0.15, 0.15), description="train, val, test")
    folds: int = Field(5, ge=2, le=20, description="cross-validation folds among the images outside test")
    fold: int | None = Field(
        None, ge=0, description="val is this fold, train the others; null: val and train by `fractions`"
    )
    seed: int = Field(0, ge=0, description="grouped: names the assignment; growth never moves a group under one seed")

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitParams:
        if abs(sum(self.fractions) - 1) > 1e-6 or min(self.fractions) <= 0:
            raise ValueError(f"fractions {self.fractions} must be positive and sum to 1")
        if self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold}: the {self.folds} folds are 0 to {self.folds - 1}")
        return self


class EvaluateParams(Section):
    """How good, how sure."""

    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples for intervals")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="coverage of intervals")
    seed: int = Field(0, ge=0, description="seed of the resampling")
    gallery_images: int = Field(6, ge=1, le=50, description="images each in worst, median and best")
    thumbnails: int = Field(
        1000,
        ge=0,
        le=100_000,
        description="most validation and test images whose masks compare can show, about 20 kB each",
    )


class Floors(Section):
    """Scores on validation below which a candidate isn't registered."""

    dice: Fraction = Field(0.5, description="lowest mean Dice on validation")
    iou: Fraction = Field(0.3, description="lowest mean IoU on validation")


class TrackingParams(Section):
    """Where MLflow keeps what it is told. The server is MLFLOW_TRACKING_URI's, else a file in the project."""

    experiment: str = Field("segops", min_length=1, description="the experiment of the candidates' runs")
    model_name: str = Field("nuclei-segmentation", min_length=1, description="the registered model")


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
    """A model version with its lineage, or the floor it missed."""

    floors: Floors = Floors()
    card: CardParams = CardParams()


class CompareParams(Section):
    """Which candidate leads, and is the lead real."""

    bootstrap: int = Field(5000, ge=100, le=100_000, description="resamples for paired differences")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="coverage of intervals; the rest to 1 is the tests' level"
    )
    seed: int = Field(0, ge=0, description="seed of the resampling")
    subgroup_margin: float = Field(
        0.05, ge=0, le=1, description="a subgroup in which the leader lies further below another is marked (Dice)"
    )
    min_subgroup_images: int = Field(
        5, ge=1, description="smaller modalities and sizes aren't judged, smaller groups not listed"
    )
    images: int = Field(
        20, ge=0, le=100, description="shown side by side, of a pair and subset: those that differ most"
    )


class Params(Section):
    """All of params.yaml."""

    runtime: RuntimeParams = RuntimeParams()
    tracking: TrackingParams = TrackingParams()
    ingest: IngestParams = IngestParams()
    validate_: ValidateParams = Field(ValidateParams(), alias="validate")
    split: SplitParams = SplitParams()
    candidates: dict[Name, CandidateParams] = Field(min_length=1)
    tune: TuneParams = TuneParams()
    evaluate: EvaluateParams = EvaluateParams()
    register_: RegisterParams = Field(RegisterParams(), alias="register")
    compare: CompareParams = CompareParams()
    promote: PromoteParams = PromoteParams()
    export: ExportParams = ExportParams()
    drift: DriftParams = DriftParams()
    batch: BatchParams = BatchParams()
    kubeflow: KubeflowParams = KubeflowParams()

    @model_validator(mode="after")
    def _searchable(self) -> Params:
        for name, search in self.tune.searches.items():
            if name not in self.candidates:
                raise ValueError(
                    f"tune.searches: there is no candidate '{name}'; there are {', '.join(self.candidates)}"
                )
            check_search(name, self.candidates[name], search, self.tune)
        return self

    def candidate(self, name: str) -> CandidateParams:
        """The candidate called `name`; UserError names the ones there are."""
        if name not in self.candidates:
            raise UserError(f"params.yaml has no candidate '{name}'; it has {', '.join(self.candidates)}")
        return self.candidates[name]


def load_params(path: Path) -> Params:
    """Read and check params.yaml. Raises UserError with one line for the first mistake."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's folder or pass --params") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected sections such as 'ingest:' and 'candidates:', found {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Params)}") from None
