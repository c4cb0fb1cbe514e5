"""Draws the contours of a DICOM RTSTRUCT, as radiotherapy plans have them, onto the grid of their series.

pydicom reads them. A voxel is inside a structure where its centre is inside an odd number of the structure's contours
in its plane, so that a contour within another is a hole.

Axes: D depth, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segops.data.volumes.grid import Grid
from segops.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_IN_PLANE = 0.1  # how far a contour's points may lie off a plane of voxels, in planes
_FEWEST_POINTS = 3

Points = npt.NDArray[np.float64]


def structures_on(header: Dataset, name: str, grid: Grid, image: str) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield name and mask DHW of each structure that has contours.

    Args:
        grid: of the image that they were drawn on.
        image: its name, for messages.

    Raises: UserError for a contour between planes, or beyond the image.
    """
    names = {int(part.ROINumber): str(part.ROIName) for part in header.get("StructureSetROISequence", ())}
    for roi in header.get("ROIContourSequence", ()):
        label = names.get(int(roi.ReferencedROINumber), "")
        inside_DHW = np.zeros(grid.size_DHW, bool)
        for contour in roi.get("ContourSequence", ()):
            if contour.get("ContourGeometricType") == "CLOSED_PLANAR":
                _draw(contour.ContourData, inside_DHW, f"{name}: structure '{label}'", grid, image)
        if inside_DHW.any():
            yield label, inside_DHW


def _draw(data: Any, inside_DHW: npt.NDArray[np.bool_], where: str, grid: Grid, image: str) -> None:
    """Turn the voxels inside a contour from outside to inside, and the other way round."""
    from skimage.draw import polygon

    assert grid.affine is not None, "a series says where it lies"
    points_mm = np.array(data, np.float64).reshape(-1, 3)
    if len(points_mm) < _FEWEST_POINTS:
        return
    points = (np.linalg.inv(grid.affine) @ np.column_stack([points_mm, np.ones(len(points_mm))]).T)[:3].T
    axis = int(np.argmin(np.ptp(points, axis=0)))
    plane = round(float(np.median(points[:, axis])))
    if np.abs(points[:, axis] - plane).max() > _IN_PLANE:
        raise UserError(f"{where}: a contour that doesn't lie in a slice of {image}; export the masks as a SEG")
    others = [other for other in range(3) if other != axis]
    size = np.array(grid.size_DHW)
    low, high = points[:, others].min(axis=0), points[:, others].max(axis=0)
    if not 0 <= plane < size[axis] or (low < -1).any() or (high > size[others]).any():
        raise UserError(f"{where}: a contour that reaches out of {image}; export the masks as a SEG")
    rows, columns = polygon(points[:, others[0]], points[:, others[1]], tuple(size[others]))
    np.moveaxis(inside_DHW, axis, 0)[plane][rows, columns] ^= True
