"""Defines what every layout gives: pairs of an image and its masks, or an error that says which lack each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, Protocol

from segops.data.decoders.kinds import image_suffix
from segops.data.images import IMAGE_SUFFIXES
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.progress import counted

_SHOWN = 5

MaskRule = Literal["values", "objects", "nonzero", "classes", "shapes", "coco", "runs", "segments"]


class Members(Protocol):
    """What a layout needs of a source."""

    @property
    def names(self) -> list[str]:
        """POSIX names of the members, sorted."""

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""


@dataclass(frozen=True)
class Pair:
    """An image and its masks, by member name.

    Attributes:
        key: the image's place in the layout, `folder/stem`.
        mask_rule: `values`: a mask whose values name classes; `objects`: such a mask for each object; `nonzero`: a
            mask for each object, anything above 0 is class 1; `classes`: a mask for each class of `mask_classes`,
            anything above 0 is that class; `shapes`, `coco`, `runs`: annotations; `segments`: a
            DICOM SEG.
        group: what the layout says the image belongs to; None: nothing.
        modality: what the layout says; None: nothing.
        stacked: files of further channels, in order.
        pixel_size_um: what a table says, `unknown` too; None: nothing.
        slices: the other files of an image, channel or mask of a volume that has a file per slice, by its first.
        mask_classes: class index of each mask under the rule `classes`.
        subset: the one that the data come with; empty: none.
        entry: the image's name in a file of annotations of all images.
    """

    key: str
    image: str
    masks: tuple[str, ...]
    mask_rule: MaskRule
    group: str | None = None
    modality: str | None = None
    stacked: tuple[str, ...] = ()
    mask_classes: tuple[int, ...] = ()
    entry: str = ""
    subset: str = ""
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pixel_size_um: float | Literal["unknown"] | None = None

    @property
    def mask_source(self) -> str:
        """The mask's member, or the folder of the masks."""
        whole = len(self.masks) == 1 and self.mask_rule not in ("objects", "nonzero")
        return self.masks[0] if whole else f"{PurePosixPath(self.masks[0]).parent}/"

    @property
    def members(self) -> tuple[str, ...]:
        """All files that the example is read from."""
        first = self.image, *self.stacked, *self.masks
        return *first, *(name for others in self.slices.values() for name in others)

    @property
    def channels(self) -> list[tuple[str, ...]]:
        """The files of a volume, by what holds some of its channels."""
        return [(name, *self.slices.get(name, ())) for name in (self.image, *self.stacked)]


def is_image(name: str) -> bool:
    """Return whether a file has the suffix of an image that can be read."""
    return image_suffix(name) in IMAGE_SUFFIXES


def check_paired(images: Iterable[str], masks: Iterable[str], params: IngestParams) -> None:
    """Raise UserError that names the images without a mask and the masks without an image, unless they are left out."""
    if params.unpaired == "skip":
        return
    images, masks = sorted(images), sorted(masks)
    complaints = []
    if images:
        complaints.append(f"{counted(len(images), 'image')} without mask: {first(images)}")
    if masks:
        complaints.append(f"{counted(len(masks), 'mask')} without image: {first(masks)}")
    if complaints:
        raise UserError(
            f"{'; '.join(complaints)}; add the missing files, correct ingest.images and ingest.masks, or set "
            "ingest.unpaired: skip"
        )


def first(items: Sequence[str]) -> str:
    """List the first few names, with two dots where there are more."""
    return ", ".join(items[:_SHOWN]) + (", .." if len(items) > _SHOWN else "")


def describe_names(names: Sequence[str], params: IngestParams) -> str:
    """Word what a source holds: how many files and the first of their names."""
    return f"{params.source} holds {counted(len(names), 'file')}: {first(names)}"
