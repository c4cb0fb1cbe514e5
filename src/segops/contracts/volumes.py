"""Defines how a volume lies in an array, and how far its voxels are apart: the same in every file and every function.

Axes: D depth, H height, W width, C channels. The index of D grows towards the superior (head), of H towards the
posterior (back), of W towards the left side of the patient: the array is indexed (z, y, x) in the LPS frame of DICOM
and ITK. Ingest brings every volume into this orientation; nothing turns it afterwards. A slice along an axis of the
array is axial (D), coronal (H) or sagittal (W). A volume is DHWC, its mask and its objects DHW; spacing is in mm, in
the order d, h, w.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Spacing = tuple[float, float, float]
"""Distance of voxels' centres, mm, along d, h and w; NaN where the source doesn't say it."""

UNKNOWN_SPACING: Spacing = (math.nan, math.nan, math.nan)
SPACING_COLUMNS = ("spacing_d_mm", "spacing_h_mm", "spacing_w_mm")


def spacing_of(row: Mapping[Any, Any]) -> Spacing:
    """Return the spacing of a row of the manifest or the index."""
    depth_mm, height_mm, width_mm = (float(row[name]) for name in SPACING_COLUMNS)
    return depth_mm, height_mm, width_mm


def is_known(spacing_mm: Spacing) -> bool:
    """Return whether a spacing is known along all three axes."""
    return not any(math.isnan(value) for value in spacing_mm)


def size_words(row: Mapping[Any, Any]) -> str:
    """Word the size of a row's image: HEIGHTxWIDTH, of a volume DEPTHxHEIGHTxWIDTH."""
    plane = f"{row['height']}x{row['width']}"
    return plane if row["depth"] == 1 else f"{row['depth']}x{plane}"
