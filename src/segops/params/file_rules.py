"""Defines how image files are read, the same in ingest and wherever a model is used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from segops.params.section import Value

Dimensions = Literal[2, 3]
Millimetres = Annotated[float, Field(gt=0, le=1000)]


class FileRules(Value):
    """How image files are read."""

    orientation: Literal["error", "turn", "stored"] = Field(
        "error",
        description="a file that asks viewers to turn it: stop, turn it as they do, or keep it as it is stored",
    )
    planes: Literal["error", "split"] = Field(
        "error",
        description="a TIFF of several slices or frames: stop, or take each as an image, all of them in one group",
    )
    fourth_axis: Literal["error", "channels"] = Field(
        "error", description="of a NIfTI of four axes: stop, or take them as channels, as the Decathlon's brains are"
    )
    slices: Literal["file", "folder"] = Field(
        "file",
        description="layout pairs, of volumes: a volume is a file, or a folder of its slices: pictures numbered from "
        "the lowest up, spacing_mm apart, or DICOM",
    )
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] | None = Field(
        None, description="of volumes whose files don't say it, along depth, height and width; null: unknown"
    )
    level: int = Field(0, ge=0, description="of TIFFs that hold smaller copies of their image; 0: the full size")
