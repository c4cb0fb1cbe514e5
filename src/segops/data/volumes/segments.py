"""Reads the segments of a DICOM SEG, by highdicom, or the structures of an RTSTRUCT, on the grid of their series.

Axes: D depth, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.data.volumes.contours import RTSTRUCT_CLASS, structures_on
from segops.data.volumes.dicom import read_header, uid_words
from segops.data.volumes.extras import extra
from segops.data.volumes.grid import Grid, Volume, oriented
from segops.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

Array = npt.NDArray[Any]

_SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
_LABEL_MAP_CLASS = "1.2.840.10008.5.1.4.1.1.66.7"
SEG_CLASSES = (_SEG_CLASS, _LABEL_MAP_CLASS)
_ON_A_VOXEL = 0.1  # how far a frame may lie off its image's voxels, in voxels: headers are rounded


def is_mask(header: Dataset) -> bool:
    """Return whether a DICOM file is a SEG or an RTSTRUCT, and no image."""
    return header.get("SOPClassUID") in (*SEG_CLASSES, RTSTRUCT_CLASS)


class Segment(NamedTuple):
    """A labelled part of an image: DHW bool."""

    label: str
    inside_DHW: npt.NDArray[np.bool_]


def segments_on(content: bytes, name: str, grid: Grid, image: str) -> Iterator[Segment]:
    """Yield the segments of a SEG in the order of their numbers, or the structures of an RTSTRUCT.

    Args:
        grid: of the image that they belong to.
        image: its name, for messages.

    Raises: UserError for another kind of object, a fractional segmentation, or frames that don't lie on the image's
        voxels.
    """
    dataset = read_header(content, name, pixels=True)
    if dataset.get("SOPClassUID") == RTSTRUCT_CLASS:
        yield from (Segment(*structure) for structure in structures_on(dataset, name, grid, image))
        return
    if dataset.get("SOPClassUID") not in SEG_CLASSES:
        raise UserError(f"{name}: neither DICOM SEG nor RTSTRUCT ({uid_words(dataset.get('SOPClassUID'))})")
    seg = extra("highdicom.seg", "DICOM SEG").Segmentation.from_dataset(dataset, copy=False)
    if seg.segmentation_type.value == "FRACTIONAL":
        raise UserError(f"{name}: a fractional SEG, of probabilities; save it as a binary one")
    for number in seg.segment_numbers:
        frames = seg.get_volume(segment_numbers=[number], combine_segments=False, dtype=np.uint8)
        label = str(seg.get_segment_description(number).segment_label)
        volume = oriented(frames.array[..., :1], np.asarray(frames.affine, np.float64), name)
        yield Segment(label, _placed(volume, grid, name, image))


def _placed(volume: Volume, grid: Grid, name: str, image: str) -> npt.NDArray[np.bool_]:
    """Return a part of an image as the whole, DHW. Raises UserError where it doesn't lie on the image's voxels."""
    assert grid.affine is not None, "a series says where it lies"
    corners_mm = np.column_stack([volume.grid.corners(), np.ones(8)])
    corners = (np.linalg.inv(grid.affine) @ corners_mm.T)[:3].T  # in voxels of the image
    first, last = corners[0], corners[-1]
    begin = np.rint(first).astype(int)
    wanted = begin + np.array(volume.grid.size_DHW) - 1
    if np.abs(first - begin).max() > _ON_A_VOXEL or np.abs(last - wanted).max() > _ON_A_VOXEL:
        raise UserError(f"{name}: its frames don't lie on the voxels of {image}; export the mask on its image's grid")
    inside_DHW = volume.array_DHWC[..., 0] > 0
    end, size = wanted + 1, np.array(grid.size_DHW)
    low, high = np.maximum(begin, 0), np.minimum(end, size)
    placed_DHW = np.zeros(grid.size_DHW, bool)
    if (low < high).all():
        here = tuple(slice(*ends) for ends in zip(low, high, strict=True))
        there = tuple(slice(*ends) for ends in zip(low - begin, high - begin, strict=True))
        placed_DHW[here] = inside_DHW[there]
    if np.count_nonzero(placed_DHW) != np.count_nonzero(inside_DHW):
        raise UserError(f"{name}: its mask reaches out of {image}; export the mask on its image's grid")
    return placed_DHW
