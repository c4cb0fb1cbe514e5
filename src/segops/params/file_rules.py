"""Defines how image files are read, the same in ingest and wherever a model is used."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segops.params.section import Value


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
    level: int = Field(0, ge=0, description="of TIFFs that hold smaller copies of their image; 0: the full size")
