"""Defines the params of a source: where its files are, and how they pair up."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segops.params.section import Section

CHANNEL = "{channel}"
VOLUME_LAYOUTS = ("pairs", "csv", "decathlon", "dicom")
ONLY_VOLUMES = ("decathlon", "dicom")


class LayoutParams(Section):
    """Where files are, and how they pair up."""

    source: str = Field(
        description="synthetic://, s3://, http(s)://, dvc://repo@rev#path, lakefs://repo/ref/path, a folder, a .zip, "
        ".tar, .tar.gz or .tgz"
    )
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="expected hash of the archive; http(s):// needs it"
    )
    name: str = Field("dataset", min_length=1, description="the dataset's name in reports and in MLflow")
    licence: str = Field(
        "", description="the data's licence, passed on to reports; own data must state it, or that it is unknown"
    )
    layout: Literal["pairs", "dsb2018", "bids", "csv", "coco", "run_lengths", "decathlon", "dicom"] = Field(
        "pairs",
        description="how files pair up; of volumes decathlon: dataset.json lists them; dicom: series and the SEG "
        "or RTSTRUCT that references them, or a mask file beside them",
    )
    images: str = Field("images", min_length=1, description="pairs: folder or glob of the images")
    masks: str = Field(
        "masks",
        min_length=1,
        description="pairs: folder or glob of the masks, same stem as the image, also of labelme's or QuPath's files "
        "(*.json, *.geojson); bids: derivative, such as seg-axon; dicom: what series of masks are called, as in stack",
    )
    table: str = Field(
        "table.csv",
        min_length=1,
        description="csv: member with columns image, mask, and image_id, group, modality, subset, pixel_size_um; "
        "run_lengths: with columns image, runs, and class; coco: the JSON file",
    )
    about: str | None = Field(
        None,
        description="a second table of the source, joined to any layout: columns image (its file or stem), and group "
        "(or patient, subject, case, ..), modality, subset, pixel_size_um",
    )
    subset_folders: dict[str, Literal["train", "val", "test"]] = Field(
        {}, description="folder to subset, for split.protocol given, such as {training: train, test: test}"
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
        "without it the end of the stem; [_0000, _0001] is nnU-Net's; dicom: a glob a channel, such as ['*t1*', "
        "'*flair*'], of which each is one series of a study, by its description, modality or folder",
    )

    @property
    def synthetic(self) -> bool:
        """Whether the data are drawn, as in the default run."""
        return self.source.startswith("synthetic://")

    @property
    def stated_licence(self) -> str:
        """The licence; drawn data belong to nobody."""
        return self.licence or ("CC0-1.0" if self.synthetic else "unknown")

    def check_stack(self) -> None:
        """Raise ValueError for a stack without `{channel}`, of another layout, or with equal texts."""
        if not self.stack:
            if CHANNEL in self.images:
                raise ValueError(f"images holds {CHANNEL}; list in stack what it stands for")
            return
        if self.layout not in ("pairs", "csv", "dicom"):
            raise ValueError(f"stack works with the layouts pairs, csv and dicom, not with {self.layout}")
        if len(set(self.stack)) < len(self.stack) or "" in self.stack:
            raise ValueError(f"stack {self.stack}: each channel needs a text of its own")
