"""Defines what ingest writes: the dataset."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract, Sha256, Share
from segops.contracts.masks import MOST_CLASSES
from segops.contracts.pixel_size import KnownPixels
from segops.contracts.volumes import Spacing
from segops.params.colours import HexColour
from segops.params.file_rules import Dimensions, FileRules
from segops.params.section import Value


class Shard(Value):
    """A tar of `<id>.image.png|npy`, `<id>.mask.png|npy` and, where the source tells objects apart,
    `<id>.objects.png|npy` members, sorted, mtime 0.
    """

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
        description="groups of the base that new images show to be the same, by the name that they have now"
    )


class FileChange(Value):
    """A kind of change that ingest made in files, such as a dropped alpha channel."""

    change: str
    files: int = Field(ge=1)
    pixels: int = Field(ge=0, description="in all of them")
    named: dict[str, int] = Field(description="pixels of the first files")


class UnusedFiles(Value):
    """Files of the source that no example uses."""

    kind: str
    images: bool = Field(description="whether they are images, by their suffix")
    files: int = Field(ge=1)
    named: list[str] = Field(description="the first of them")


class Dataset(Contract):
    """dataset.json: what an example is, and what the data looks like."""

    FILE: ClassVar[str] = "dataset.json"
    name: str
    licence: str
    source: str = Field(description="the source as given in params, without a local folder's path")
    source_revision: str | None = Field(None, description="what names this state of a remote source for good")
    source_sha256: Sha256 = Field(description="hash of the archive, or of the folder's sorted names and contents")
    dimensions: Dimensions = Field(2, description="2: an example is a picture, 3: a volume")
    layout: str
    group_by: str
    classes: list[str] = Field(
        min_length=2, max_length=MOST_CLASSES, description="class names by index; 0 is background"
    )
    class_colours: list[HexColour] = Field(description="by class index, for pictures and masks")
    images: int = Field(ge=1)
    groups: int = Field(ge=1)
    modalities: dict[str, int] = Field(description="images by modality")
    sizes: dict[str, int] = Field(description="images by 'HEIGHTxWIDTH', volumes by 'DEPTHxHEIGHTxWIDTH', pixels")
    spacing_mm: Spacing | None = Field(
        None, description="median over volumes along depth, height and width; null: not known of all"
    )
    pixel_um: KnownPixels | None = Field(
        None, description="height and width of pictures' pixels, micrometres; null: known of none, or volumes"
    )
    channels: dict[str, int] = Field(description="images by channel count")
    dtypes: dict[str, int] = Field(description="images by sample type")
    class_share: dict[str, Share] = Field(description="share by class of the pixels that aren't ignored")
    ignored_share: Share = Field(0, description="of all pixels, those that belong to no known class: 255 in masks")
    files: FileRules = Field(FileRules(), description="how files were read")
    uint16_bits: int = Field(16, ge=8, le=16, description="bits that 16-bit samples use; the highest counts as 1")
    objects: int | None = Field(
        None, description="of the images in which the source tells objects apart; null: it tells none apart"
    )
    stack: list[str] = Field(
        [], description="the ends of the names of the channels' files, in order; empty: one file per image"
    )
    intensity_percentiles: dict[str, float] = Field(
        description="of per-image means; full scale is 1, but int16 and float32 images have their own units"
    )
    unused: list[UnusedFiles] = Field([], description="files of the source that no example uses, by kind")
    changes: list[FileChange] = Field(
        [], description="stray mask values, alpha channels, overlaps, by what was done to them"
    )
    joined_groups: dict[str, list[str]] = Field(
        {},
        description="other names that a group's images had before: it is in the subset of the most held-out of them",
    )
    growth: Growth | None = Field(None, description="against ingest.base; null without a base")
    manifest_sha256: Sha256
    shards: list[Shard] = Field(min_length=1)

    @property
    def pixels(self) -> str:
        """The sizes of pictures' pixels in micrometres, and of how many pictures they aren't known."""
        known = self.pixel_um
        if known is None:
            return "not known; ingest.pixel_size_um can say it"
        left = self.images - known.images
        return f"{known.words}; not known of {left} of {self.images} images" if left else known.words
