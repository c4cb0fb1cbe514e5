"""Reads the mask of an example from its files, by the rule of its layout and the kind of masks that params name.

Axes: H height, W width. Masks of volumes are DHW, read and merged in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from segops.data.annotations import run_lengths, shapes
from segops.data.annotations.coco import CocoFile
from segops.data.annotations.drawing import Annotation
from segops.data.decoders.decode import decode_planes
from segops.data.ignored import IgnoredPixels
from segops.data.layouts.annotated import rows_of_image
from segops.data.layouts.pairing import Pair
from segops.data.masks import MaskValues, mask_values, read_mask
from segops.data.objects import check_size, merge_objects, number_objects, objects_in_files
from segops.data.read_changes import ChangeLog
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.progress import counted

if TYPE_CHECKING:
    from segops.data.sources.source import Source
    from segops.data.volumes.read import MaskFiles

Values = Callable[[str], np.ndarray]
OVERLAP = "overlap of classes, kept by the one that is listed last"


class MaskReader:
    """Reads masks; what it changes in them goes to `changes`."""

    def __init__(self, params: IngestParams, source: Source, changes: ChangeLog) -> None:
        params.check_background()
        self._params, self._source, self._changes = params, source, changes
        self._channel = params.mask_channel
        self._background = next(iter(params.class_of_value))
        self._ignored = IgnoredPixels(())
        self._values = MaskValues(params.class_of_value, params.stray_values, by_colour=params.by_colour)
        self._raw: Values = self._picture_values
        self._coco: CocoFile | None = None
        self._runs: dict[str, list[run_lengths.Runs]] | None = None

    def read(
        self, pair: Pair, size: tuple[int, ...], volume: MaskFiles | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read an image's mask as class indices HW, and as an object map where the source tells objects apart.

        Args:
            size: the image's height and width, in which annotations are drawn; of a volume also its depth.
            volume: reads the masks of a volume; None: the masks are pictures.

        Raises: UserError naming the file.
        """
        self._raw = volume.values if volume else self._picture_values
        self._ignored = IgnoredPixels(self._params.ignored_values)
        if pair.mask_rule == "segments":
            assert volume is not None, "layouts of pictures give no segments"
            return self._ignored.lay(self._of_segments(pair, volume), None)
        return self._ignored.lay(*self._read(pair, size))

    def _read(self, pair: Pair, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray | None]:
        """Read an image's mask and objects; ignored pixels are background in them, and noted."""
        by_id = self._params.mask_kind == "objects"
        match pair.mask_rule:
            case "classes":
                return self._of_classes(pair), None
            case "values":
                (name,) = pair.masks
                return self._meaning(self._raw(name), name)
            case "objects" if by_id:
                masks = objects_in_files((name, self._ids(name)) for name in pair.masks)
            case "shapes" | "coco" | "runs":
                if len(size) > 2:
                    raise UserError(f"{pair.masks[0]}: annotations of pictures; the mask of a volume is a volume")
                masks = self._drawn(pair, (size[0], size[1]))
            case rule:
                masks = ((name, self._object(name, rule)) for name in pair.masks)
        return merge_objects(masks, pair.image, self._changes)

    def read_planes(self, pair: Pair, planes: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Read the masks of an image's slices or frames, from a file with as many of them, each as `read` gives it.

        Raises: UserError for another number, or masks that aren't such a file.
        """
        (name,) = pair.masks
        if pair.mask_rule != "values":
            raise UserError(f"{name}: the masks of {planes} planes are read from a TIFF of as many; save them as one")
        by_colour = self._params.by_colour
        decoded = decode_planes(
            self._source.read(name), name, "colours" if by_colour else "values", self._params.file_rules
        )
        if len(decoded) != planes:
            raise UserError(
                f"{name}: {counted(len(decoded), 'plane')}, but {pair.image} has {planes}; each needs a mask"
            )
        masks = []
        for plane in decoded:
            self._ignored = IgnoredPixels(self._params.ignored_values)
            values_HW = mask_values(
                plane,
                name,
                self._changes,
                channel=self._channel,
                by_colour=by_colour,
                tolerance=self._params.mask_tolerance,
            )
            masks.append(self._ignored.lay(*self._meaning(values_HW, name)))
        return masks

    def _meaning(self, values_HW: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Give a mask's values their meaning: classes, or ids of objects."""
        if self._params.mask_kind != "objects":
            return self._mapped(values_HW, name), None
        objects_HW = number_objects(self._ignored.take(values_HW, 0), name, self._changes)
        return (objects_HW > 0).view(np.uint8), objects_HW

    def _drawn(self, pair: Pair, size: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the name and the class indices HW of each annotated object; an empty mask where there is none."""
        yield pair.image, np.zeros(size, np.uint8)
        (file,) = pair.masks
        for number, (label, mask_HW, crowd) in enumerate(self._annotations(pair, file, size), start=1):
            where = f"{file}: object {number} of {pair.image}"
            if label in self._params.ignore_classes:
                self._ignored.add(mask_HW)
                continue
            index = self._class_index(label, where, int(mask_HW.sum()))
            if index is not None and crowd:
                self._ignored.add(mask_HW, crowd=True)
            elif index is not None:
                yield where, mask_HW.astype(np.uint8) * np.uint8(index)

    def _annotations(self, pair: Pair, file: str, size: tuple[int, int]) -> Iterator[Annotation]:
        """Yield the annotated objects of an image; a file of all images is parsed once."""
        if pair.mask_rule == "shapes":
            return shapes.drawn_shapes(self._source.read(file), file, size)
        if pair.mask_rule == "coco":
            if self._coco is None:
                self._coco = CocoFile(self._source.read(file), file)
            return self._coco.drawn(pair.entry, size)
        if self._runs is None:
            self._runs = rows_of_image(self._source.read(file), file, self._params)
        return run_lengths.drawn_runs(self._runs[pair.entry], file, size)

    def _class_index(self, label: str, where: str, pixels: int) -> int | None:
        """Return the index of a label's class; None for one that is left out. Raises UserError for an unknown one."""
        classes = self._params.classes
        if label in classes:
            return classes.index(label)
        if label == shapes.UNNAMED and len(classes) == 2:
            return 1
        if self._params.stray_values == "background":
            self._changes.add(f"object of class '{label}' left out", where, pixels)
            return None
        raise UserError(
            f"{where}: class '{label}' is not in ingest.mask_values ({', '.join(classes)}); name it there or in "
            "ingest.ignore_classes, or set ingest.stray_values: background to leave such objects out"
        )

    def _picture_values(self, name: str) -> np.ndarray:
        """Read the values of a mask HW; ids of objects may be colours."""
        params = self._params
        by_colour = None if params.mask_kind == "objects" else params.by_colour
        return read_mask(
            self._source.read(name),
            name,
            self._changes,
            params.file_rules,
            channel=self._channel,
            by_colour=by_colour,
            tolerance=params.mask_tolerance,
        )

    def _mapped(self, values_HW: np.ndarray, name: str) -> np.ndarray:
        """Map values that name classes."""
        return self._values.apply(self._ignored.take(values_HW, self._background), name, self._changes)

    def _ids(self, name: str) -> np.ndarray:
        """Read a mask in which anything above 0 is an object, or the class of its file."""
        return self._ignored.take(self._raw(name), 0)

    def _object(self, name: str, rule: str) -> np.ndarray:
        """Read the mask of an object: anything above 0 is class 1, or its values name its class."""
        if rule == "nonzero":
            return (self._ids(name) > 0).view(np.uint8)
        return self._mapped(self._raw(name), name)

    def _of_classes(self, pair: Pair) -> np.ndarray:
        """Merge the masks of single classes into one."""
        files = zip(pair.mask_classes, pair.masks, strict=True)
        return self._merged(pair, ((index, name, self._ids(name) > 0) for index, name in files))

    def _of_segments(self, pair: Pair, volume: MaskFiles) -> np.ndarray:
        """Merge the labelled segments of a file into a mask; those of classes to ignore are noted."""
        (file,) = pair.masks
        parts = [(0, file, np.zeros(volume.grid.size_DHW, bool))]
        for label, inside_DHW in volume.segments(file):
            where = f"{file}: segment '{label}'"
            if label in self._params.ignore_classes:
                self._ignored.add(inside_DHW)
                continue
            index = self._class_index(label, where, int(inside_DHW.sum()))
            if index is not None:
                parts.append((index, where, inside_DHW))
        return self._merged(pair, sorted(parts, key=lambda part: part[0]))

    def _merged(self, pair: Pair, parts: Iterable[tuple[int, str, np.ndarray]]) -> np.ndarray:
        """Merge masks of classes; where they overlap, the class that is listed last counts.

        Args:
            parts: class index, name and mask HW bool of each, in the order of the classes.
        """
        merged_HW: np.ndarray | None = None
        overlap = 0
        for index, name, inside_HW in parts:
            if merged_HW is None:
                merged_HW = np.zeros(inside_HW.shape, np.uint8)
            check_size(inside_HW, merged_HW, name, pair.image)
            overlap += int(np.count_nonzero(merged_HW[inside_HW]))
            merged_HW[inside_HW] = index
        assert merged_HW is not None, "a layout gives every image a mask"
        if overlap:
            self._changes.add(OVERLAP, pair.image, overlap)
        return merged_HW
