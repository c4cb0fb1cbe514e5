"""Holds objects that the source tells apart: ids in one file, or a mask per object, numbered in a fixed order.

Axes: H height, W width. An object map is HW uint16, or uint32 where uint16 is too small: 0 background, then objects
from 1, without gaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from segops.data.read_changes import ChangeLog
from segops.errors import UserError

OVERLAP = "overlap of objects, kept by the higher class, else by the smaller object"
HIDDEN = "object left out that lies wholly under others"
PIECES = "object of several pieces kept as one (pixels outside its largest piece)"


def number_dtype(objects: int) -> np.dtype[np.unsignedinteger]:
    """Return the sample type of a map of so many objects."""
    return np.dtype(np.uint16 if objects <= np.iinfo(np.uint16).max else np.uint32)


def number_objects(ids_HW: np.ndarray, name: str, changes: ChangeLog) -> np.ndarray:
    """Number the objects of a mask of ids in the order of their ids; an object of several pieces stays one.

    Args:
        ids_HW: integers of any width; 0 is background, each other value one object.
        name: the file's name for messages, and in `changes`.

    Returns: an object map.
    Raises: UserError for a negative id.
    """
    if (least := ids_HW.min()) < 0:
        raise UserError(f"{name}: object id {least}; ids are whole numbers from 1 on, and 0 is background")
    numbered_HW = numbered(ids_HW)
    _note_pieces(numbered_HW, name, changes)
    return numbered_HW


def numbered(ids_HW: np.ndarray) -> np.ndarray:
    """Return ids, 0 and above, as an object map in the order of the ids."""
    if ids_HW.max() <= ids_HW.size:  # a table by id is many times faster than sorting
        there, position_HW = np.zeros(int(ids_HW.max()) + 1, bool), ids_HW
        there[ids_HW] = True
        there[0] = False
    else:
        ids, position_HW = np.unique(ids_HW, return_inverse=True)
        there = ids > 0
    numbers = np.cumsum(there)
    numbered_HW: np.ndarray = numbers.astype(number_dtype(int(numbers[-1])))[position_HW].reshape(ids_HW.shape)
    return numbered_HW


def merge_objects(
    masks: Iterable[tuple[str, np.ndarray]], image: str, changes: ChangeLog
) -> tuple[np.ndarray, np.ndarray]:
    """Merge masks of single objects, which stay apart where they touch or overlap.

    A pixel of several objects belongs to the one of the higher class, else to the smaller one, so that a small object
    on a large one is seen; of equally large ones to the first. An object of which nothing is seen is left out.

    Args:
        masks: name and HW uint8 class indices of each object; those without foreground are no objects.
        image: the image's name for messages, and in `changes`.

    Returns: HW uint8 class indices, and an object map in the order of the masks.
    Raises: UserError where the masks' sizes differ.
    """
    merged_HW: np.ndarray | None = None
    names, areas, overlap = [""], [0], 0
    for name, mask_HW in masks:
        if merged_HW is None:
            merged_HW, owner_HW = np.zeros(mask_HW.shape, np.uint8), np.zeros(mask_HW.shape, np.int64)
        check_size(mask_HW, merged_HW, name, image)
        inside = np.nonzero(mask_HW)
        area = len(inside[0])
        if not area:
            continue
        new, old = mask_HW[inside], merged_HW[inside]
        wins = (new > old) | ((new == old) & (area < np.array(areas)[owner_HW[inside]]))
        seen = tuple(axis[wins] for axis in inside)
        merged_HW[seen], owner_HW[seen] = new[wins], len(names)
        names.append(name)
        areas.append(area)
        overlap += int(np.count_nonzero(old))
    assert merged_HW is not None, "a layout gives every image a mask"
    if overlap:
        changes.add(OVERLAP, image, overlap)
    for number in sorted({*range(1, len(names))} - {*np.unique(owner_HW).tolist()}):
        changes.add(HIDDEN, names[number], areas[number])
    return merged_HW, number_objects(owner_HW, image, changes)


def objects_in_files(ids: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the mask HW, 0 and 1, of each object of some files of ids; an empty mask of a file of none."""
    for name, ids_HW in ids:
        for value in np.unique(ids_HW[ids_HW != 0]) if ids_HW.any() else (1,):
            yield name, (ids_HW == value).view(np.uint8)


def check_ids(instances: Sequence[int], changes: ChangeLog) -> None:
    """Raise UserError where masks that were read as ids look like masks of a class.

    None holds two objects, and most of those that hold one hold it in several pieces.

    Args:
        instances: objects of each image.
        changes: what `number_objects` noted.
    """
    filled = sum(count > 0 for count in instances)
    in_pieces = sum(entry.files for entry in changes.entries() if entry.change == PIECES)
    if max(instances) <= 1 and 2 * in_pieces > filled:
        raise UserError(
            "ingest.mask_kind is objects, but no mask holds two ids, and the one id is in several pieces in "
            f"{in_pieces} of {filled} masks: these look like masks of a class; write ingest.mask_kind: classes, and "
            "mask_values"
        )


def _note_pieces(objects_HW: np.ndarray, name: str, changes: ChangeLog) -> None:
    """Note the objects that consist of several 8-connected pieces."""
    from skimage.measure import label

    pieces_HW, pieces = label(objects_HW, background=0, connectivity=2, return_num=True)
    if pieces == objects_HW.max():
        return
    sizes = np.bincount(pieces_HW.ravel(), minlength=pieces + 1)
    owner = np.zeros(pieces + 1, np.int64)
    owner[pieces_HW] = objects_HW
    largest = np.zeros(int(objects_HW.max()) + 1, np.int64)
    np.maximum.at(largest, owner[1:], sizes[1:])
    changes.add(PIECES, name, int(sizes[1:].sum() - largest.sum()))


def check_size(mask_HW: np.ndarray, merged_HW: np.ndarray, name: str, image: str) -> None:
    """Raise UserError for a mask of another size than those of its image before it."""
    if mask_HW.shape != merged_HW.shape:
        raise UserError(
            f"{name}: {_size(mask_HW)} pixels, but the masks of {image} before it have {_size(merged_HW)}; "
            "make them one size"
        )


def _size(array_HW: np.ndarray) -> str:
    return f"{array_HW.shape[0]}x{array_HW.shape[1]}"
