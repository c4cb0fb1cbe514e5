"""Defines how far a picture's pixels are apart: in the columns of a volume's spacing, that of the depth unknown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import Field

from segops.contracts.volumes import SPACING_COLUMNS, UNKNOWN_SPACING, Spacing
from segops.params.section import Value

PixelSize = tuple[float, float]
"""Distance of pixels' centres along height and width, micrometres."""

_UM_PER_MM = 1000


class KnownPixels(Value):
    """The pixel sizes of the pictures that have a known one."""

    images: int = Field(ge=1, description="whose pixel size is known")
    smallest_pixel: PixelSize
    largest_pixel: PixelSize

    @property
    def words(self) -> str:
        """The sizes: `0.5`, of pixels that aren't square `0.5 x 0.25`, of several `0.25 to 0.5`."""
        low, high = (
            " x ".join(f"{side:.4g}" for side in dict.fromkeys(size))
            for size in (self.smallest_pixel, self.largest_pixel)
        )
        return low if low == high else f"{low} to {high}"

    @classmethod
    def of(cls, sizes: Iterable[PixelSize | None], **others: Any) -> Self | None:
        """Gather the sizes that are known, with what a kind of its own adds; None where there is none."""
        known = sorted(size for size in sizes if size is not None)
        return cls(images=len(known), smallest_pixel=known[0], largest_pixel=known[-1], **others) if known else None


def as_spacing(size_um: PixelSize | None) -> Spacing:
    """Return a pixel size as the manifest keeps it; None is unknown."""
    return UNKNOWN_SPACING if size_um is None else (math.nan, size_um[0] / _UM_PER_MM, size_um[1] / _UM_PER_MM)


def pixel_size_of(row: Mapping[Any, Any]) -> PixelSize | None:
    """Return the pixel size of a picture's row of the manifest or the index; None where it isn't known."""
    height_um, width_um = (round(float(row[name]) * _UM_PER_MM, 9) for name in SPACING_COLUMNS[1:])
    return None if math.isnan(height_um) or math.isnan(width_um) else (height_um, width_um)
