"""Reads the examples of a source: an image, its mask, and its objects where the source tells them apart.

Axes: H height, W width, C channels; a volume has a depth D before them (`contracts.volumes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from segops.contracts.pixel_size import as_spacing
from segops.contracts.volumes import SPACING_COLUMNS, UNKNOWN_SPACING, Spacing
from segops.data.appearance import Appearance, appearances
from segops.data.faults import FaultLog
from segops.data.fingerprint import describe_image, describe_mask, describe_objects, rescale
from segops.data.images import read_planes, read_stack
from segops.data.mask_reader import MaskReader
from segops.data.pixel_size import PixelSizes
from segops.data.read_changes import ChangeLog
from segops.data.volumes.read import MaskFiles, read_volume
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.progress import track

if TYPE_CHECKING:
    from segops.data.layouts.layout import Example
    from segops.data.layouts.pairing import Pair
    from segops.data.shards import ShardWriter
    from segops.data.sources.source import Source

_VALUES_OF_A_MASK = 4
_SWAPPED = "the images look like masks: ingest.images and ingest.masks may be swapped"


class _Read(NamedTuple):
    """An example as its files hold it: a picture, or a volume DHWC with its mask and objects DHW."""

    image_id: str
    image_HWC: np.ndarray
    mask_HW: np.ndarray
    objects_HW: np.ndarray | None
    spacing_mm: Spacing = UNKNOWN_SPACING


class ExampleReader:
    """Reads examples in turn and keeps figures only.

    Attributes:
        rows: columns of the manifest by example; group and shard are missing.
        changes: what was changed in the files.
        class_pixels: pixels of all masks by class; ignored ones are in none.
        uint16_bits: that 16-bit samples use, known when all images are read.
    """

    def __init__(self, params: IngestParams, source: Source) -> None:
        self.params, self.source = params, source
        self.rows: list[dict[str, Any]] = []
        self.changes = ChangeLog()
        self.class_pixels = np.zeros(len(params.classes), np.int64)
        self.uint16_bits = 16
        self._files = params.file_rules
        self._masks = MaskReader(params, source, self.changes)
        self._pixels = PixelSizes(source, params)
        self._looks: list[Appearance | None] = []
        self._like_masks = 0  # images of few values whose masks can't be read

    def copy(self, examples: Sequence[Example], writer: ShardWriter, faults: Path | None) -> dict[str, str]:
        """Copy the examples to the writer; return group ids by image id.

        Raises: UserError that tells all images that can't be taken; `faults` lists them.
        """
        from segops.data.grouping import FieldMatcher

        matcher = FieldMatcher() if self.params.group_by == "fields" else None
        groups: dict[str, str] = {}
        log = FaultLog()
        for example in track(examples, "ingest"):
            with log.collected(example.pair.image):
                for read in self._volume(example) if self.params.dimensions == 3 else self._pictures(example):
                    if read.image_id in groups:
                        raise UserError(
                            f"{example.pair.image}: a plane of it would get another's id '{read.image_id}'; rename it"
                        )
                    groups[read.image_id] = example.group_id
                    self._describe(example.pair, read)
                    writer.add(read.image_id, read.image_HWC, read.mask_HW, read.objects_HW)
                    if matcher:
                        matcher.add(read.image_id, read.image_HWC)
        log.raise_any(len(examples), faults, advice=_SWAPPED if self._like_masks == len(log.faults) else "")
        self._settle()
        return matcher.groups() if matcher else groups

    def _volume(self, example: Example) -> Iterator[_Read]:
        """Yield the volume of an example."""
        pair, read = example.pair, self.source.read
        if pair.pixel_size_um is not None:
            raise UserError(f"{pair.image}: a table says its pixel_size_um, but it is a volume; set ingest.spacing_mm")
        image_DHWC, grid = read_volume(read, pair.channels, self.changes, self._files)
        files = MaskFiles(read, grid, pair.image, self.changes, self._files, self.params.mask_tolerance)
        mask_DHW, objects_DHW = self._masks.read(pair, image_DHWC.shape[:3], files)
        yield _Read(example.image_id, image_DHWC, mask_DHW, objects_DHW, grid.spacing_mm)

    def _pictures(self, example: Example) -> Iterator[_Read]:
        """Yield the picture of an example, or each plane of its file."""
        pair = example.pair
        files = {name: self.source.read(name) for name in (pair.image, *pair.stacked)}
        if self.params.planes == "split" and not pair.stacked:
            planes = read_planes(files[pair.image], pair.image, self.changes, self._files)
        else:
            planes = [read_stack(files.__getitem__, list(files), self.changes, self._files)]
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
            self._like_masks += len(np.unique(image_HWC)) <= _VALUES_OF_A_MASK
            raise
        yield _Read(example.image_id, image_HWC, mask_HW, objects_HW, spacing_mm)

    def _describe(self, pair: Pair, read: _Read) -> None:
        """Keep the figures of an example."""
        of_mask, class_pixels = describe_mask(read.mask_HW, len(self.class_pixels))
        of_image, look = describe_image(read.image_HWC)
        self.rows.append(
            {
                "image_id": read.image_id,
                "source_image": pair.image,
                "source_mask": pair.mask_source,
                "given_subset": pair.subset,
                "modality": self.params.modality or pair.modality,
                **of_image,
                **of_mask,
                **describe_objects(read.objects_HW),
                **dict(zip(SPACING_COLUMNS, read.spacing_mm, strict=True)),
            }
        )
        self._looks.append(look)
        self.class_pixels += class_pixels

    def _settle(self) -> None:
        """Complete the rows with what only all images together tell: their scale, and their clusters."""
        self.uint16_bits, looks = rescale(self.rows, self._looks, self.params.uint16_bits)
        for row, cluster in zip(self.rows, appearances(looks), strict=True):
            row["modality"] = row["modality"] or cluster

    def class_share(self) -> dict[str, float]:
        """Return the share by class of the pixels that aren't ignored."""
        total = max(1, int(self.class_pixels.sum()))
        return {name: int(count) / total for name, count in zip(self.params.classes, self.class_pixels, strict=True)}
