"""Defines the params of ingest: what the source is, and what its files mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from segops.errors import UserError
from segops.params.colours import WrittenColour, check_given, colours_by_index, hex_colour
from segops.params.file_rules import FileRules

CHANNEL = "{channel}"


class IngestParams(FileRules):
    """From a source to a dataset."""

    source: str = Field(
        description="synthetic://, s3://, http(s)://, dvc://repo@rev#path, a folder, a .zip, .tar, .tar.gz or .tgz"
    )
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="expected hash of the archive; http(s):// needs it"
    )
    name: str = Field("dataset", min_length=1, description="the dataset's name in reports and in MLflow")
    licence: str = Field("unknown", description="the data's licence, passed on to reports")
    layout: Literal["pairs", "dsb2018", "bids", "csv"] = Field("pairs", description="how files pair up")
    images: str = Field("images", min_length=1, description="pairs: folder or glob of the images")
    masks: str = Field(
        "masks",
        min_length=1,
        description="pairs: folder or glob of the masks, same stem as the image; bids: derivative, such as seg-axon",
    )
    table: str = Field(
        "table.csv", min_length=1, description="csv: member with columns image, mask, and image_id, group, modality"
    )
    exclude: list[str] = Field(
        [], description="globs of files and folders that are left out, such as [previews, '*_old*']"
    )
    unpaired: Literal["error", "skip"] = Field(
        "error", description="an image without a mask, or a mask without an image: stop, or leave it out"
    )
    stack: list[str] = Field(
        [],
        description="pairs, csv: one file a channel, in this order: what {channel} in an image's path stands for, or "
        "without it the end of the stem; [_0000, _0001] is nnU-Net's",
    )
    mask_kind: Literal["classes", "objects"] = Field(
        "classes",
        description="what a mask's values are: mask_values, or ids of objects of the single foreground class (0 is "
        "background; of mask_values the two names count, the values don't matter)",
    )
    mask_values: dict[int, str] = Field(
        {0: "background", 255: "foreground"}, min_length=2, description="file value to class; the first is background"
    )
    class_colours: dict[str, Annotated[str, BeforeValidator(hex_colour, json_schema_input_type=WrittenColour)]] = Field(
        {}, description='"#rrggbb" by class name, for pictures and predicted masks; the others are chosen'
    )
    modality: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="what all images are, such as fluorescence; splits and reports tell kinds apart; null: what the "
        "layout says of each, else clusters by brightness and colour, with numbers",
    )
    stray_values: Literal["error", "nearest", "background"] = Field(
        "error",
        description="a mask value outside mask_values: stop, take the nearest listed value (at most a quarter of "
        "the way to the next), or background",
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
    shard_mib: int = Field(256, ge=1, le=4096, description="largest shard, MiB")
    max_archive_gib: float = Field(64.0, gt=0, description="largest unpacked archive, GiB")
    base: str | None = Field(
        None,
        description="an earlier dataset (folder, s3://, dvc://) whose unchanged groups keep their shards and names",
    )
    connections: int = Field(8, ge=1, le=64, description="of a remote source, at the same time")

    @model_validator(mode="after")
    def _pattern_given(self) -> IngestParams:
        """Refuse a pattern without `group_by: pattern` or the reverse, a wrong number of classes, and a wrong stack."""
        if (self.group_by == "pattern") != (self.group_pattern is not None):
            raise ValueError("group_pattern and group_by: pattern go together; set both or neither")
        if len(set(self.mask_values.values())) < 2:
            raise ValueError("mask_values names one class; map at least two values to two classes")
        if self.mask_kind == "objects" and len(self.classes) != 2:
            raise ValueError(
                f"mask_kind objects has one foreground class, but mask_values names {len(self.classes)} classes "
                f"({', '.join(self.classes)}); name background and that class"
            )
        self._check_stack()
        check_given(self.class_colours, self.classes)
        return self

    def check_background(self) -> None:
        """Raise UserError where the class that is called background isn't the first: it would be an object.

        It is called where params.yaml is loaded, and where masks are read.
        """
        for position, name in enumerate(self.classes):
            if position and name.strip().lower() == "background":
                value = next(value for value, other in self.mask_values.items() if other == name)
                raise UserError(
                    f"ingest.mask_values: '{name}' isn't the first class, so it would be an object and "
                    f"'{self.classes[0]}' the background; list {value}: {name} first"
                )

    def _check_stack(self) -> None:
        """Raise ValueError for a stack without `{channel}`, of another layout, or with equal texts."""
        if not self.stack:
            if CHANNEL in self.images:
                raise ValueError(f"images holds {CHANNEL}; list in stack what it stands for")
            return
        if self.layout not in ("pairs", "csv"):
            raise ValueError(f"stack works with the layouts pairs and csv, not with {self.layout}")
        if len(set(self.stack)) < len(self.stack) or "" in self.stack:
            raise ValueError(f"stack {self.stack}: each channel needs a text of its own")

    @property
    def file_rules(self) -> FileRules:
        """How the source's files are read."""
        return FileRules(orientation=self.orientation, level=self.level)

    @property
    def classes(self) -> list[str]:
        """Class names in index order; 0 is background."""
        return list(dict.fromkeys(self.mask_values.values()))

    @property
    def colours(self) -> list[str]:
        """`#rrggbb` of each class, in index order."""
        return colours_by_index(self.classes, self.class_colours)
