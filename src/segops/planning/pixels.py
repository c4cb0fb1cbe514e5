"""Looks at the pixels of a sample of examples: what images and masks hold, and how large objects are.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from segops.contracts.masks import IGNORED, classes_of
from segops.contracts.pixel_size import KnownPixels, PixelSize
from segops.contracts.volumes import Spacing, is_known
from segops.data.grouping import FieldMatcher
from segops.data.images import OWN_UNITS, read_stack
from segops.data.layouts.layout import Example
from segops.data.layouts.pairing import Pair
from segops.data.mask_reader import MaskReader
from segops.data.masks import read_mask
from segops.data.pixel_size import PixelSizes
from segops.data.read_changes import ChangeLog
from segops.data.sources.source import Source
from segops.data.volumes.grid import Grid, words
from segops.data.volumes.read import MaskFiles, read_volume
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.progress import track

_CENTRE_PX = 1024  # of a mask, whose objects are measured
_MOST_VALUES = 400  # of a mask, each of which is looked at by itself
_SMALLEST_OBJECT_PX = 4
_SMALLEST_TILE_PX = 48  # shorter edges continue one another by chance
_PERCENTILES = (0.5, 99.5)
COLOUR = 2**24  # added to a packed 0xRRGGBB, so that colours aren't taken for values


@dataclass(frozen=True)
class ImageFacts:
    """What an image holds.

    Attributes:
        channels: in the file; `grey` says that three of them are equal everywhere.
        low, high: percentiles 0.5 and 99.5 of the values.
        top: the largest value.
        spacing: the pixel size that the file carries, such as `0.5 um`.
        depth: slices; 1 of a picture.
        spacing_mm: of a volume's voxels; None: unknown, as of pictures.
    """

    height: int
    width: int
    channels: int
    dtype: str
    grey: bool
    low: float
    high: float
    top: float
    spacing: str | None
    depth: int = 1
    spacing_mm: Spacing | None = None


@dataclass(frozen=True)
class MaskFacts:
    """What the masks of an image hold.

    Attributes:
        pixels: by value; colours are packed 0xRRGGBB above COLOUR.
        one_piece: share of the pixels above 0 whose value is a single connected piece.
        widths_px: typical width of each object, in pixels: four times the mean distance to its border, which is the
            width of a strip and two thirds of a disc's diameter.
    """

    pixels: dict[int, int]
    one_piece: float
    widths_px: tuple[float, ...]

    @property
    def values(self) -> set[int]:
        """The values that the mask holds."""
        return set(self.pixels)


@dataclass
class Look:
    """Facts of the examples that were looked at, of `total` in all."""

    total: int
    images: list[ImageFacts] = field(default_factory=list)
    masks: list[MaskFacts] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every example was looked at."""
        return len(self.images) == self.total

    @property
    def of(self) -> str:
        """How many were looked at, in words."""
        return f"all {self.total} images" if self.complete else f"{len(self.images)} of {self.total} images"


def look(source: Source, examples: Sequence[Example], params: IngestParams, most: int) -> Look:
    """Read up to `most` examples, evenly spread, and return their facts. A file that can't be read is a fault.

    Args:
        params: how files pair, and where `described` holds what masks mean.

    Raises: UserError: the first file's, where none can be read.
    """
    seen, matcher, reader = Look(len(examples)), FieldMatcher(), MaskReader(params, source, ChangeLog())
    pixels = PixelSizes(source, params)
    for example in track(evenly(examples, most), "look"):
        pair = example.pair
        try:
            image_HWC, volume = _read(source, pair, params)
            if described(pair):
                masks = _described_facts(*reader.read(pair, image_HWC.shape[:-1], volume))
            else:
                masks = mask_facts(_values(source, name, params, volume) for name in pair.masks)
        except UserError as error:
            seen.faults.append(str(error))
            continue
        spacing = volume.grid if volume else pixels.of(pair, source.read(pair.image), image_HWC.shape[:2])
        seen.images.append(_image_facts(image_HWC, spacing))
        seen.masks.append(masks)
        seen.ids.append(example.image_id)
        if volume is None and image_HWC.dtype.name not in OWN_UNITS and min(image_HWC.shape[:2]) >= _SMALLEST_TILE_PX:
            matcher.add(example.image_id, image_HWC)
    if not seen.images:
        raise UserError(seen.faults[0] if seen.faults else "no example to look at")
    seen.fields = matcher.groups()
    return seen


def described(pair: Pair) -> bool:
    """Return whether files or names say which class an object is, so that no value has to be interpreted."""
    return pair.mask_rule in ("classes", "shapes", "coco", "runs", "segments")


def evenly(examples: Sequence[Example], most: int) -> list[Example]:
    """Return up to `most` of the examples, evenly spread over their order, the first and the last among them."""
    if len(examples) <= most:
        return list(examples)
    return [examples[place] for place in np.linspace(0, len(examples) - 1, most).round().astype(int)]


def _read(source: Source, pair: Pair, params: IngestParams) -> tuple[np.ndarray, MaskFiles | None]:
    """Read an image HWC, or a volume DHWC with what reads its masks."""
    rules = params.file_rules
    if params.dimensions == 2:
        return read_stack(source.read, (pair.image, *pair.stacked), rules=rules), None
    image_DHWC, grid = read_volume(source.read, pair.channels, ChangeLog(), rules)
    return image_DHWC, MaskFiles(source.read, grid, pair.image, ChangeLog(), rules, params.mask_tolerance, pair.slices)


def _image_facts(image_HWC: np.ndarray, spacing: PixelSize | Grid | None) -> ImageFacts:
    """Measure an image, or a volume on its grid."""
    *depth, height, width, channels = image_HWC.shape
    thinned = image_HWC[..., :: max(1, height // 512), :: max(1, width // 512), :]
    low, high = np.percentile(thinned.astype(np.float64), _PERCENTILES)
    grey = channels == 1 or (channels == 3 and bool((image_HWC == image_HWC[..., :1]).all()))
    name = image_HWC.dtype.name
    facts = (height, width, channels, name, grey, float(low), float(high), float(image_HWC.max()))
    if not isinstance(spacing, Grid):
        known_pixels = KnownPixels.of([spacing])
        return ImageFacts(*facts, f"{known_pixels.words} um" if known_pixels else None)
    known = is_known(spacing.spacing_mm)
    return ImageFacts(
        *facts,
        words(spacing.spacing_mm) if known else None,
        depth=depth[0],
        spacing_mm=spacing.spacing_mm if known else None,
    )


def _values(source: Source, name: str, params: IngestParams, volume: MaskFiles | None) -> np.ndarray:
    """Read a mask's values HW; of a coloured mask its colours, above COLOUR."""
    if volume is not None:
        return volume.values(name)
    content = source.read(name)
    try:
        return read_mask(content, name, ChangeLog(), params.file_rules, by_colour=False)
    except UserError:
        return COLOUR + read_mask(content, name, ChangeLog(), params.file_rules, by_colour=True).astype(np.int64)


def _described_facts(mask_HW: np.ndarray, objects_HW: np.ndarray | None) -> MaskFacts:
    """Measure a mask whose classes are known: pixels by class index but ignored ones, widths of objects."""
    indices, counts = np.unique(mask_HW[mask_HW != IGNORED], return_counts=True)
    facts = mask_facts([classes_of(mask_HW) if objects_HW is None else objects_HW])
    return replace(facts, pixels=dict(zip(indices.tolist(), counts.tolist(), strict=True)))


def mask_facts(masks: Iterable[np.ndarray]) -> MaskFacts:
    """Measure the masks of an image: one with its values, or one for each object."""
    pixels: Counter[int] = Counter()
    widths: list[float] = []
    whole_px = inside_px = files = 0
    for values_HW in masks:
        files += 1
        present, counts = np.unique(values_HW, return_counts=True)
        pixels.update(dict(zip(present.tolist(), counts.tolist(), strict=True)))
        for pieces, size_px, widths_px in _objects(_centre(values_HW), _background(present, counts)):
            whole_px += size_px if pieces == 1 else 0
            inside_px += size_px
            widths += widths_px
    if files > 1:  # a mask an object: what lies outside it is counted in each
        pixels[0] = max(0, pixels[0] - (files - 1) * values_HW.size)
    return MaskFacts(dict(pixels), whole_px / inside_px if inside_px else 0.0, tuple(widths))


def _centre(values_HW: np.ndarray) -> np.ndarray:
    """Return the centre of a large mask, whose objects stand for all."""
    begins = [max(0, (side - _CENTRE_PX) // 2) for side in values_HW.shape]
    return values_HW[tuple(slice(begin, begin + _CENTRE_PX) for begin in begins)]


def _background(present: np.ndarray, counts: np.ndarray) -> int:
    """Return the value that is most likely background: 0 or black where it is there, else the most frequent."""
    for black in (0, COLOUR):
        if black in present:
            return black
    return int(present[np.argmax(counts)])


def _objects(values_HW: np.ndarray, background: int) -> Iterator[tuple[int, int, list[float]]]:
    """Yield of each value but the background its pieces, its pixels, and the typical width of each piece, in pixels."""
    from scipy import ndimage

    present = np.unique(values_HW)
    labels_HW = np.searchsorted(present, values_HW) + 1
    labels_HW[values_HW == background] = 0
    boxes = ((label, box) for label, box in enumerate(ndimage.find_objects(labels_HW), start=1) if box is not None)
    for label, box in islice(boxes, _MOST_VALUES):
        inside_HW = np.pad(labels_HW[box] == label, 1)
        parts_HW, number = ndimage.label(inside_HW)
        sizes = np.bincount(parts_HW.ravel())[1:]
        means = ndimage.mean(ndimage.distance_transform_edt(inside_HW), parts_HW, np.arange(1, number + 1))
        widths = [4 * float(mean) for mean, size in zip(means, sizes, strict=True) if size >= _SMALLEST_OBJECT_PX]
        yield number, int(sizes.sum()), widths
