"""Defines the params of what is done to a whole volume, on its own grid, before slices or patches are cut out of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segops.params.section import Section


class BiasFieldParams(Section):
    """N4 bias field correction (Tustison et al. 2010): takes the slow changes of brightness of a coil off MR images."""

    shrink: int = Field(4, ge=1, le=8, description="the field is fitted to every so manieth voxel along each axis")
    levels: int = Field(4, ge=1, le=6, description="times that the spline's mesh is refined by two")
    iterations: int = Field(50, ge=1, le=500, description="at each level, at most")


class VolumeStepsParams(Section):
    """What is done to a whole volume, in this order; the program that is registered gets volumes after these steps."""

    bias_field: BiasFieldParams | None = Field(None, description="1st: N4 bias field correction of MR; null: none")
    zscore_over: Literal["volume", "nonzero", "otsu"] | None = Field(
        None,
        description="2nd: zero mean and unit deviation by channel, over all voxels of the volume, over those that "
        "aren't 0 (nnU-Net, of images whose background was cut off), or over those brighter than Otsu's threshold; "
        "null: values stay",
    )

    @property
    def change(self) -> bool:
        """Whether they change a volume at all."""
        return self.bias_field is not None or self.zscore_over is not None
