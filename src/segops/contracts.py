"""The files that pass between stages, up to prepared data; `model_contracts.py` has those of candidates.

Every JSON has a model, carries `schema_version` and refuses to load when invalid; every table has its columns
here. None of them holds a time, a path of this machine, a host or a run id: those stand in `run.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from segops.class_colours import HexColour
from segops.errors import UserError
from segops.files import sha256_lines, write_json
from segops.section import Value

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Subset = Literal["train", "val", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "val", "test")


class Contract(Value):
    """A JSON file between two stages."""

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


class Shard(Value):
    """A tar of `<id>.image.png|npy` and `<id>.mask.png|npy` members, sorted, mtime 0."""

    file: str
    sha256: Sha256
    size_bytes: int = Field(ge=0)
    images: int = Field(ge=1)


class Growth(Value):
    """What a dataset took over from the version that `ingest.base` names."""

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


class FileChange(Value):
    """Something that ingest changed in files."""

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
    joined_groups: dict[str, list[str]] = Field(
        {}, description="other names that a group's images had in earlier versions: it stands where those stood"
    )
    growth: Growth | None = Field(None, description="against ingest.base; null without one")
    manifest_sha256: Sha256
    shards: list[Shard] = Field(min_length=1)


# ------------------------------------------------------------------------------------------------------- validation


class Expectation(Value):
    """The outcome of one expectation on the manifest."""

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


class SubsetSummary(Value):
    """What stands in a subset."""

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
    few_groups: str | None = Field(None, description="that val or test has few groups, and what to do")

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


class ChannelIntensities(Value):
    """Values of one channel in training images: on a full scale of 1, or an int16 or float32 image's own."""

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
    index_sha256: Sha256 = Field(description="of index.parquet's bytes")
    intensities: dict[str, list[ChannelIntensities]] = Field(
        {}, description="of training images, by their number of channels, then channel by channel"
    )

    @property
    def sha256(self) -> str:
        """One hash of pixels, masks and assignment: the data part of a candidate's key."""
        return sha256_lines([self.images_sha256, self.masks_sha256, self.assignment_sha256])
