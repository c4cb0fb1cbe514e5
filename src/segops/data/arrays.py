"""Holds prepared pixels: flat files to memory-map and an index.

Axes: H height, W width, C channels; a volume has a depth D before them (`contracts.volumes`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from segops.contracts.base import SUBSETS, Subset
from segops.contracts.masks import is_foreground
from segops.contracts.pixel_size import PixelSize, pixel_size_of
from segops.contracts.pixels import StoredPixels
from segops.contracts.prepared import Prepared
from segops.contracts.tables import INDEX_COLUMNS, read_table, split_assignment
from segops.contracts.volumes import Spacing, is_known, spacing_of
from segops.data.fingerprint import array_head, array_sha256
from segops.data.flat_files import IMAGES, MASKS, OBJECTS, array_dtype, array_end, map_bytes
from segops.data.images import full_scale
from segops.data.stored_bytes import ArrayHash, StoredBytes
from segops.errors import UserError
from segops.files import sha256_file, sha256_lines

if TYPE_CHECKING:
    import pandas as pd

INDEX = "index.parquet"


class PreparedData:
    """The prepared images, masks and objects of a dataset, at native size, in memory-mapped files or in a bucket.

    meta: prepared.json; index: INDEX_COLUMNS, one row per image.
    """

    def __init__(self, folder: Path, meta: Prepared, index: pd.DataFrame) -> None:
        self.folder = folder
        self.meta = meta
        self.index = index
        self._fold: int | None = None
        self._rows = index.to_dict("records")
        told_apart = [row for row, entry in enumerate(self._rows) if entry["instances"] >= 0]
        self._images = self._opened(IMAGES, "image", range(len(self._rows)))
        self._masks = self._opened(MASKS, "mask", range(len(self._rows)))
        self._objects = self._opened(OBJECTS, "objects", told_apart) if told_apart else None

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a folder that `prepare` wrote.

        Raises: UserError when a file is missing or truncated, the index isn't what prepared.json describes, or a group
            is in two subsets of a grouped split.
        """
        meta = Prepared.load(folder)
        index = read_table(folder / INDEX, INDEX_COLUMNS)
        _check_file(folder / INDEX, meta.index_sha256)
        try:
            split_assignment(index, meta.protocol)
        except ValueError as error:
            raise UserError(f"{folder / INDEX}: {error}; run `segops split` and `segops prepare` again") from None
        return cls(folder, meta, index)

    def verify_pixels(self) -> None:
        """Hash all pixels, masks and objects, once per training or evaluation; those in a bucket when they are read.

        Raises: UserError where they have changed.
        """
        if isinstance(self._images, StoredBytes):
            return
        for file, part, array in ((IMAGES, "image", self.image), (MASKS, "mask", self.mask)):
            for row, entry in enumerate(self._rows):
                _check(self.folder / file, array_sha256(array(row)), entry[f"{part}_sha256"])
        for row, entry in enumerate(self._rows):
            if (objects_HW := self.objects(row)) is not None:
                _check(self.folder / OBJECTS, array_sha256(objects_HW), entry["objects_sha256"])

    def _opened(self, name: str, part: str, rows: Iterable[int]) -> np.ndarray | StoredBytes:
        """Open a flat file of the folder: what holds its bytes."""
        if not (self.folder / StoredPixels.FILE).is_file():
            return map_bytes(self.folder / name, max(array_end(self._rows[row], part) for row in rows))
        arrays = {}
        for row in rows:
            entry = self._rows[row]
            shape = (*self.size(row), int(entry["channels"])) if part == "image" else self.size(row)
            head = array_head(array_dtype(entry, part), shape)
            arrays[int(entry[f"{part}_offset"])] = ArrayHash(head, entry[f"{part}_sha256"])
        about = StoredPixels.load(self.folder)
        fix = "run `segops prepare` again"
        return StoredBytes(about.bucket, about.files[name], arrays, cache=name, fix=fix)

    def __len__(self) -> int:
        return len(self._rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.folder, self._fold)  # a worker maps the files itself; a pickled map would copy them

    def __copy__(self) -> Self:
        view = type(self).__new__(type(self))
        vars(view).update(vars(self))
        return view

    def of_fold(self, fold: int) -> PreparedData:
        """Return the same images assigned by a fold: val is the fold, train the other folds; test stays.

        Raises: UserError when a subset would be empty.
        """
        index = self.index.assign(subset=[_subset_by_fold(entry["fold"], fold) for entry in self._rows])
        for subset in ("train", "val"):
            if subset not in set(index["subset"]):
                raise UserError(
                    f"{self.folder / INDEX}: fold {fold} leaves {subset} empty; lower split.folds or change split.seed"
                )
        assignment_sha256 = sha256_lines([self.meta.assignment_sha256, f"fold {fold}"])
        view = copy.copy(self)
        view.meta = self.meta.model_copy(update={"assignment_sha256": assignment_sha256})
        view.index, view._rows, view._fold = index, index.to_dict("records"), fold
        return view

    def with_images(self, path: Path, offsets: dict[int, int], *, dtype: str, channels: int, sha256: str) -> Self:
        """Return the same data with other images of the same sizes; a row without an offset has no image.

        Args:
            path: flat file as `FlatWriter` writes it.
            offsets: offset in bytes by row.
            sha256: names the images, for caches.

        Images of 16 bits have 65,535 as their full scale.
        """
        view = copy.copy(self)
        view._rows = [
            {**entry, "dtype": dtype, "channels": channels, "image_offset": offsets.get(row, -1)}
            for row, entry in enumerate(self._rows)
        ]
        view.index = self.index.assign(dtype=dtype, channels=channels)
        view.meta = self.meta.model_copy(update={"images_sha256": sha256, "uint16_bits": 16})
        view._images = map_bytes(path, max(array_end(view._rows[row], "image") for row in offsets))
        return view

    def with_volumes(self, folder: Path, entries: dict[int, dict[Any, Any]], *, sha256: str) -> Self:
        """Return the same data with volumes of another size; a row without an entry has none.

        Args:
            folder: holds `images.bin` and `masks.bin`, as `FlatWriter` writes them.
            entries: by row, what of the index is another.
            sha256: names the volumes, for caches.
        """
        view = copy.copy(self)
        view._rows = [{**entry, **entries.get(row, {})} for row, entry in enumerate(self._rows)]
        view.index = self.index.assign(**{str(name): [row[name] for row in view._rows] for name in self.index})
        view.meta = self.meta.model_copy(update={"images_sha256": sha256, "masks_sha256": sha256})
        view._images = map_bytes(folder / IMAGES, max(array_end(view._rows[row], "image") for row in entries))
        view._masks = map_bytes(folder / MASKS, max(array_end(view._rows[row], "mask") for row in entries))
        return view

    def full_scale(self, dtype: np.dtype) -> float:
        """Return the value that counts as 1 in images of a type."""
        return full_scale(dtype.name, self.meta.uint16_bits)

    @property
    def folds(self) -> list[int]:
        """The cross-validation folds that hold an image, ascending."""
        return sorted({int(entry["fold"]) for entry in self._rows} - {-1})

    def fold(self, row: int) -> int:
        """Return the cross-validation fold of an image; -1 in test."""
        return int(self._rows[row]["fold"])

    def example(self, row: int) -> int:
        """Return the number of the example that row `row` shows: its own, unless rows are slices of volumes."""
        return row

    def image(self, row: int) -> np.ndarray:
        """Return image `row`: HWC, or a volume DHWC, uint8, uint16, int16 or float32, a read-only view of the file."""
        entry = self._rows[row]
        flat = self._images[entry["image_offset"] : array_end(entry, "image")].view(array_dtype(entry, "image"))
        image_HWC: np.ndarray = flat.reshape(*self.size(row), entry["channels"])
        return image_HWC

    def mask(self, row: int) -> np.ndarray:
        """Return mask `row`: HW or DHW uint8 class indices and IGNORED, a read-only view of the file."""
        entry = self._rows[row]
        return self._masks[entry["mask_offset"] : array_end(entry, "mask")].reshape(self.size(row))

    def size(self, row: int) -> tuple[int, ...]:
        """Return the height and width of image `row`, of a volume its depth before them."""
        entry = self._rows[row]
        size_dhw = entry["depth"], entry["height"], entry["width"]
        return size_dhw if self.meta.dimensions == 3 else size_dhw[1:]

    def spacing_mm(self, row: int) -> Spacing | None:
        """Return the distance of voxels of volume `row`; None where it isn't known, as of pictures."""
        spacing = spacing_of(self._rows[row])
        return spacing if is_known(spacing) else None

    def pixel_um(self, row: int) -> PixelSize | None:
        """Return the pixel size of picture `row`; None where it isn't known, as of volumes."""
        return pixel_size_of(self._rows[row]) if self.meta.dimensions == 2 else None

    def objects(self, row: int) -> np.ndarray | None:
        """Return the object map HW or DHW of image `row` (`data.objects`), a read-only view of the file.

        None where the source tells no objects apart.
        """
        entry = self._rows[row]
        if self._objects is None or entry["instances"] < 0:
            return None
        flat = self._objects[entry["objects_offset"] : array_end(entry, "objects")].view(array_dtype(entry, "objects"))
        objects_HW: np.ndarray = flat.reshape(self.size(row))
        return objects_HW

    def require_foreground(self, rows: Iterable[int], subset: str) -> None:
        """Raise UserError where no mask of those rows has foreground: nothing can be chosen or judged there."""
        if not any(is_foreground(self.mask(row)).any() for row in rows):
            raise UserError(
                f"{self.folder / INDEX}: no image of {subset} has foreground, so nothing can be chosen or judged; "
                "change split.seed or split.fractions, or add annotated images, and run split again"
            )

    def will_read(self, rows: Iterable[int]) -> None:
        """Fetch images and masks that are about to be read, together, where they are in a bucket."""
        entries = [self._rows[row] for row in rows]
        for part, stored in (("image", self._images), ("mask", self._masks)):
            if isinstance(stored, StoredBytes):
                stored.fetch((entry[f"{part}_offset"], array_end(entry, part)) for entry in entries)

    def rows(self, subset: Subset) -> list[int]:
        """Return the row numbers of a subset, ascending. Raises ValueError for an unknown subset."""
        if subset not in SUBSETS:
            raise ValueError(f"no subset '{subset}'; there are {', '.join(SUBSETS)}")
        return [row for row, entry in enumerate(self._rows) if entry["subset"] == subset]


def _check_file(path: Path, expected: str) -> None:
    """Raise UserError where a file's hash isn't what prepared.json says."""
    _check(path, sha256_file(path), expected)


def _check(path: Path, actual: str, expected: str) -> None:
    """Raise UserError where a hash of what a file holds isn't the expected."""
    if actual != expected:
        raise UserError(f"{path}: differs from what {Prepared.FILE} describes; run `segops prepare` again")


def _reopened(folder: Path, fold: int | None) -> PreparedData:
    """Open prepared data again in another process, at the same fold."""
    data = PreparedData.open(folder)
    return data if fold is None else data.of_fold(fold)


def _subset_by_fold(of_image: int, fold: int) -> Subset:
    """Return the subset of an image of fold `of_image` (-1: test) where `fold` is val."""
    if of_image < 0:
        return "test"
    return "val" if of_image == fold else "train"
