"""Defines the params of ingest: what the source is, and what its files mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from segops.params.file_rules import Dimensions, FileRules
from segops.params.layout import ONLY_VOLUMES, VOLUME_LAYOUTS, LayoutParams
from segops.params.masks import CLASS, MaskParams

LARGEST_PIXEL_UM = 10_000.0
PixelSide = Annotated[float, Field(gt=0, le=LARGEST_PIXEL_UM)]
PATIENT_KEY = "SEGOPS_PATIENT_KEY"
"""The environment variable with the project's key, by which layout dicom hashes patients' ids."""

_OF_PICTURES = {"planes": "error", "orientation": "error", "level": 0, "mask_channel": None, "uint16_bits": None}


class IngestParams(FileRules, MaskParams, LayoutParams):
    """From a source to a dataset."""

    dimensions: Dimensions = Field(
        2, description="3: an example is a volume, of a NIfTI, MHA or NRRD file, a DICOM series or a TIFF of slices"
    )
    modality: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="what all images are, such as fluorescence; splits and reports tell kinds apart; null: what the "
        "layout says of each, else clusters by brightness and colour, with numbers",
    )
    group_by: Literal["layout", "pattern", "image", "fields"] = Field(
        "layout", description="what shares a group: the layout's own, group_pattern, nothing, or tiles of one field"
    )
    group_pattern: str | None = Field(
        None, description="group_by pattern: a regular expression on the image id; its first group names the group"
    )
    uint16_bits: Literal[8, 10, 12, 14, 16] | None = Field(
        None, description="bits that 16-bit samples use, so that their highest value counts as 1; null: found"
    )
    pixel_size_um: PixelSide | Literal["files", "unknown"] = Field(
        "files",
        description="side of a picture's pixel, um, in which distances are reported beside pixels; files: as OME-TIFF, "
        "ImageJ's TIFF, BIDS, TIFF and PNG say it; a number or unknown counts before these, and the column "
        "pixel_size_um of table or about before all",
    )
    shard_mib: int = Field(256, ge=1, le=4096, description="largest shard, MiB")
    max_archive_gib: float = Field(64.0, gt=0, description="largest unpacked archive, GiB")
    base: str | None = Field(
        None,
        description="an earlier dataset (folder, s3://, dvc://, lakefs://) whose unchanged groups keep their shards",
    )
    connections: int = Field(8, ge=1, le=64, description="of a remote source, at the same time")

    @model_validator(mode="after")
    def _pattern_given(self) -> IngestParams:
        """Refuse a pattern without `group_by: pattern` or the reverse, a wrong number of classes, and a wrong stack."""
        if (self.group_by == "pattern") != (self.group_pattern is not None):
            raise ValueError("group_pattern and group_by: pattern go together; set both or neither")
        self.check_masks()
        self._check_per_class()
        self.check_stack()
        if self.dimensions == 2:
            self._check_pictures()
        else:
            self._check_volumes()
        if self.planes == "split" and self.group_by == "fields":
            raise ValueError("planes: split keeps the planes of a file in one group; set group_by to layout or pattern")
        return self

    def _check_per_class(self) -> None:
        """Raise ValueError where masks are a file per class and their path doesn't say how, or the reverse."""
        per_class = self.mask_kind == "one_file_per_class"
        if per_class and self.layout not in ("pairs", "csv"):
            raise ValueError(f"mask_kind one_file_per_class works with layouts pairs and csv, not with {self.layout}")
        if self.layout == "pairs" and per_class != (CLASS in self.masks):
            raise ValueError(f"{CLASS} in masks and mask_kind: one_file_per_class go together; set both or neither")

    def _check_pictures(self) -> None:
        """Raise ValueError for params that are volumes' alone."""
        if self.fourth_axis != "error" or self.spacing_mm is not None:
            raise ValueError("fourth_axis and spacing_mm are for volumes; set dimensions: 3, or leave them out")
        if self.slices == "folder":
            raise ValueError("slices: folder is of volumes; set dimensions: 3, or leave it out")
        if self.layout in ONLY_VOLUMES:
            raise ValueError(f"layout {self.layout} holds volumes; set dimensions: 3")

    def _check_volumes(self) -> None:
        """Raise ValueError for params that are pictures' alone."""
        if self.pixel_size_um != "files":
            raise ValueError("pixel_size_um is for pictures, dimensions is 3; of volumes set spacing_mm")
        if self.layout not in VOLUME_LAYOUTS:
            raise ValueError(
                f"layout {self.layout} holds pictures; of volumes it is one of {', '.join(VOLUME_LAYOUTS)}"
            )
        if self.slices == "folder" and self.layout != "pairs":
            raise ValueError(f"slices: folder works with layout pairs, not with {self.layout}")
        if self.group_by == "fields" or self.by_colour:
            raise ValueError("group_by: fields and mask colours are for pictures, dimensions is 3")
        for name, usual in _OF_PICTURES.items():
            if getattr(self, name) != usual:
                raise ValueError(f"{name}: {getattr(self, name)} is for pictures, dimensions is 3; leave {name} out")

    @property
    def file_rules(self) -> FileRules:
        """How the source's files are read."""
        return FileRules(**{name: getattr(self, name) for name in FileRules.model_fields})
