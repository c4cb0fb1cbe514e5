"""Reads the examples of a source: an image, its mask, and its objects where the source tells them apart.

Axes: H height, W width, C channels; a volume has a depth D before them (`contracts.volumes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from segops.contracts.pixel_size import as_spacing
from segops.contracts.volumes import SPACING_COLUMNS, UNKNOWN_SPACING, Spacing
from segops.data.appearance import Appearance, appearances
from segops.data.faults import Fault, FaultLog
from segops.data.fingerprint import describe_image, describe_mask, describe_objects, rescale
from segops.data.grouping import FieldMatcher
from segops.data.images import read_planes, read_stack
from segops.data.mask_reader import MaskReader
from segops.data.parallel import ALL, Part, in_order
from segops.data.pixel_size import PixelSizes
from segops.data.read_changes import ChangeLog
from segops.data.shard_writer import Member, Spool
from segops.data.volumes.read import MaskFiles, read_volume
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.progress import track

if TYPE_CHECKING:
    from segops.data.layouts.layout import Example
    from segops.data.sources.source import Source

_RANGE: dict[int, int] = {2: 16, 3: 1}  # examples of a range, by dimensions; the result's bytes don't depend on it
_VALUES_OF_A_MASK = 4
_SWAPPED = "the images look like masks: ingest.images and ingest.masks may be swapped"


class _Read(NamedTuple):
    """An example as its files hold it: a picture, or a volume DHWC with its mask and objects DHW."""

    image_id: str
    image_HWC: np.ndarray
    mask_HW: np.ndarray
    objects_HW: np.ndarray | None
    spacing_mm: Spacing = UNKNOWN_SPACING


class ReadExamples:
    """What reading examples gave: figures, and where their encoded arrays wait.

    Attributes:
        rows: columns of the manifest by example; group and shard are missing.
        groups: group id by image id.
        members: encoded arrays by image id.
        changes: what was changed in the files.
        faults: what is wrong with the files.
        uint16_bits: that 16-bit samples use, known when all images are read.
    """

    def __init__(self, classes: int, *, fields: bool) -> None:
        self.rows: list[dict[str, Any]] = []
        self.groups: dict[str, str] = {}
        self.members: dict[str, list[Member]] = {}
        self.changes, self.faults = ChangeLog(), FaultLog()
        self.uint16_bits = 16
        self._class_pixels = np.zeros(classes, np.int64)  # of all masks; ignored ones are in none
        self._looks: list[Appearance | None] = []
        self._matcher = FieldMatcher() if fields else None
        self.like_masks = 0  # images of few values whose masks can't be read

    @classmethod
    def of(cls, params: IngestParams) -> Self:
        """Return what is before an example was read."""
        return cls(len(params.classes), fields=params.group_by == "fields")

    def add(self, example: Example, read: _Read, modality: str | None) -> None:
        """Keep the figures of an example. Raises UserError for an id that is there."""
        self._take(read.image_id, example.group_id, example.pair.image)
        of_mask, class_pixels = describe_mask(read.mask_HW, len(self._class_pixels))
        of_image, look = describe_image(read.image_HWC)
        self.rows.append(
            {
                "image_id": read.image_id,
                "source_image": example.pair.image,
                "source_mask": example.pair.mask_source,
                "given_subset": example.pair.subset,
                "modality": modality or example.pair.modality,
                **of_image,
                **of_mask,
                **describe_objects(read.objects_HW),
                **dict(zip(SPACING_COLUMNS, read.spacing_mm, strict=True)),
            }
        )
        self._looks.append(look)
        self._class_pixels += class_pixels
        if self._matcher:
            self._matcher.add(read.image_id, read.image_HWC)

    def _take(self, image_id: str, group_id: str, file: str) -> None:
        """Note an image's group. Raises UserError for an id that is there."""
        if image_id in self.groups:
            raise UserError(f"{file}: a plane of it would get another's id '{image_id}'; rename it")
        self.groups[image_id] = group_id

    def join(self, other: ReadExamples) -> None:
        """Take in what was read after it, elsewhere."""
        self.faults.join(other.faults)
        for row in other.rows:
            with self.faults.collected(row["source_image"]):
                self._take(row["image_id"], other.groups[row["image_id"]], row["source_image"])
        self.rows += other.rows
        self.members |= other.members
        self.changes.join(other.changes)
        self._looks += other._looks
        self._class_pixels += other._class_pixels
        self.like_masks += other.like_masks
        if self._matcher and other._matcher and not self.faults.faults:
            self._matcher.join(other._matcher)

    def move(self, spools: Path) -> None:
        """Take the encoded arrays to be in another folder."""
        self.members = {
            image_id: [member._replace(spool=str(spools / Path(member.spool).name)) for member in members]
            for image_id, members in self.members.items()
        }

    def settle(self, uint16_bits: int | None, examples: int, faults: Path | None) -> None:
        """Complete the rows with what only all images together tell: their scale, clusters and fields.

        Args:
            uint16_bits: as params say.
            examples: of the source.
            faults: the table that lists all images that can't be taken.

        Raises: UserError that tells all images that can't be taken.
        """
        swapped = self.like_masks == len(self.faults.faults)
        self.faults.raise_any(examples, faults, advice=_SWAPPED if swapped else "")
        self.uint16_bits, looks = rescale(self.rows, self._looks, uint16_bits)
        for row, cluster in zip(self.rows, appearances(looks), strict=True):
            row["modality"] = row["modality"] or cluster
        if self._matcher:
            self.groups = self._matcher.groups()

    def class_share(self, classes: Sequence[str]) -> dict[str, float]:
        """Return the share by class of the pixels that aren't ignored."""
        total = max(1, int(self._class_pixels.sum()))
        return {name: int(count) / total for name, count in zip(classes, self._class_pixels, strict=True)}


CLASSES = (ReadExamples, Member, ChangeLog, FaultLog, Fault, Appearance, FieldMatcher)
"""What a part of the examples is made of."""


class ExampleReader:
    """Reads a range of a source's examples; a process has one.

    Args:
        spools: the folder for encoded arrays.
    """

    def __init__(self, params: IngestParams, source: Source, spools: Path) -> None:
        self.params, self.source, self._spools = params, source, spools
        self._changes = ChangeLog()
        self._files = params.file_rules
        self._masks = MaskReader(params, source, self._changes)
        self._pixels = PixelSizes(source, params)

    def __call__(self, part: _Range) -> ReadExamples:
        """Read the examples of a range; faults of their files are collected."""
        read = ReadExamples.of(self.params)
        with Spool.open(self._spools / f"{part.number:06}") as spool:
            for example in part.examples:
                with read.faults.collected(example.pair.image):
                    for each in self._volume(example) if self.params.dimensions == 3 else self._pictures(example, read):
                        read.add(example, each, self.params.modality)
                        spool.add(each.image_id, each.image_HWC, each.mask_HW, each.objects_HW)
        read.members, read.changes = spool.members, self._changes.take()
        return read

    def _volume(self, example: Example) -> Iterator[_Read]:
        """Yield the volume of an example."""
        pair, read = example.pair, self.source.read
        if pair.pixel_size_um is not None:
            raise UserError(f"{pair.image}: a table says its pixel_size_um, but it is a volume; set ingest.spacing_mm")
        image_DHWC, grid = read_volume(read, pair.channels, self._changes, self._files)
        files = MaskFiles(read, grid, pair.image, self._changes, self._files, self.params.mask_tolerance, pair.slices)
        mask_DHW, objects_DHW = self._masks.read(pair, image_DHWC.shape[:3], files)
        yield _Read(example.image_id, image_DHWC, mask_DHW, objects_DHW, grid.spacing_mm)

    def _pictures(self, example: Example, read: ReadExamples) -> Iterator[_Read]:
        """Yield the picture of an example, or each plane of its file."""
        pair = example.pair
        files = {name: self.source.read(name) for name in (pair.image, *pair.stacked)}
        if self.params.planes == "split" and not pair.stacked:
            planes = read_planes(files[pair.image], pair.image, self._changes, self._files)
        else:
            planes = [read_stack(files.__getitem__, list(files), self._changes, self._files)]
        image_HWC = planes[0]
        spacing_mm = as_spacing(self._pixels.of(pair, files[pair.image], image_HWC.shape[:2]))
        if len(planes) > 1:
            masks = self._masks.read_planes(pair, len(planes))
            for number, (plane_HWC, (mask_HW, objects_HW)) in enumerate(zip(planes, masks, strict=True)):
                yield _Read(f"{example.image_id}_plane{number:04d}", plane_HWC, mask_HW, objects_HW, spacing_mm)
            return
        try:
            mask_HW, objects_HW = self._masks.read(pair, image_HWC.shape[:2])
        except UserError:
            read.like_masks += len(np.unique(image_HWC)) <= _VALUES_OF_A_MASK
            raise
        yield _Read(example.image_id, image_HWC, mask_HW, objects_HW, spacing_mm)


class _Range(NamedTuple):
    """Examples that are read by a process in turn."""

    number: int
    examples: Sequence[Example]


def read_examples_of(
    source: Source,
    examples: Sequence[Example],
    params: IngestParams,
    *,
    spools: Path,
    workers: int = 1,
    part: Part = ALL,
) -> ReadExamples:
    """Read a part of a source's examples, range by range, into spools; faults of their files are collected.

    Args:
        spools: an existing folder for encoded arrays.
        workers: processes; what is read doesn't depend on their number.
        part: of the ranges, which are the same however many parts there are.
    """
    every = _RANGE[params.dimensions]
    ranges = part.of([_Range(first, examples[first : first + every]) for first in range(0, len(examples), every)])
    read = ReadExamples.of(params)

    def each() -> Iterator[Example]:
        for of_range, joined in zip(
            ranges, in_order(ExampleReader(params, source, spools), ranges, workers), strict=True
        ):
            read.join(joined)
            yield from of_range.examples

    for _ in track(each(), "ingest", sum(len(of_range.examples) for of_range in ranges)):
        pass
    return read
