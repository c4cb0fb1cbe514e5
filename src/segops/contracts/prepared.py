"""Defines what prepare writes: the decoded pixels and their statistics."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract, Sha256
from segops.files import sha256_lines
from segops.params.colours import HexColour
from segops.params.file_rules import Dimensions, FileRules
from segops.params.section import Value
from segops.params.split import SplitProtocol


class ChannelIntensities(Value):
    """Values of a channel in training images: on a full scale of 1, or an int16 or float32 image's own."""

    mean: float = Field(description="of all pixels")
    std: float
    foreground_mean: float | None = Field(None, description="of up to 1,000 foreground pixels per image; null: none")
    foreground_std: float | None = None
    foreground_p00_5: float | None = Field(None, description="0.5th percentile")
    foreground_p50: float | None = None
    foreground_p99_5: float | None = None


class Prepared(Contract):
    """prepared.json: native-size pixels to memory-map.

    `images.bin` and `masks.bin` are flat files of C-order arrays in a row, each at a multiple of 8 bytes: images HWC in
    their own dtype (little endian), masks HW uint8 class indices, 255 where they are ignored. `objects.bin`, where the
    source tells objects apart, holds their maps HW, uint16 or of more than 65,535 objects uint32. Of volumes they are
    DHWC and DHW (`contracts.volumes`). `index.parquet` says where each begins, and its hash.
    """

    FILE: ClassVar[str] = "prepared.json"
    dataset: str = Field(description="the dataset's name")
    source: str
    source_revision: str | None = None
    source_sha256: Sha256
    licence: str
    dimensions: Dimensions = Field(2, description="as of dataset.json")
    classes: list[str]
    class_colours: list[HexColour]
    images: int
    files: FileRules = Field(FileRules(), description="as of dataset.json")
    uint16_bits: int = Field(16, ge=8, le=16, description="as of dataset.json")
    stack: list[str] = Field([], description="as of dataset.json")
    protocol: SplitProtocol
    manifest_sha256: Sha256
    assignment_sha256: Sha256
    test_sha256: Sha256
    images_sha256: Sha256 = Field(description="of the index's hashes of images, a line each")
    masks_sha256: Sha256 = Field(description="of those of masks")
    objects_sha256: Sha256 | None = Field(None, description="of those of objects; null: the source tells none apart")
    spacings_sha256: Sha256 | None = Field(None, description="of volumes' spacings; null: pictures")
    index_sha256: Sha256 = Field(description="of index.parquet's bytes")
    intensities: dict[str, list[ChannelIntensities]] = Field(
        {}, description="of training images, by their number of channels, then channel by channel"
    )

    @property
    def sha256(self) -> str:
        """The hash of pixels, scale, spacing, masks, objects and assignment: the data part of a candidate's key."""
        others = filter(None, (self.objects_sha256, self.spacings_sha256))
        return sha256_lines([self.scaled_images_sha256, self.masks_sha256, self.assignment_sha256, *others])

    @property
    def scaled_images_sha256(self) -> str:
        """The hash of pixels and of what counts as 1 in them."""
        return sha256_lines([self.images_sha256, f"uint16 {self.uint16_bits} bits"])
