"""Defines the params of models that aren't trained here: what a candidate is compared with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from segops.params.section import Section


class IntensityParams(Section):
    """No network: the brighter or darker a pixel, the likelier it is foreground. Nothing is trained."""

    architecture: Literal["intensity"]
    foreground: Literal["bright", "dark", "minority"] = Field(
        "minority",
        description="what objects are; minority: the smaller of the two parts into which Otsu's threshold divides what "
        "is seen at once",
    )


class ExternalWeightsParams(Section):
    """The file of an external model's weights, so that it is known which were compared."""

    path: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="hash that the file must have")


class ExternalParams(Section):
    """A model of another package, run as a command; it is compared, not registered."""

    architecture: Literal["external"]
    command: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        min_length=1,
        description="program and its arguments, such as another environment's Python and a script; how it is asked: "
        "docs/how-to/candidates.md",
    )
    version: str = Field(min_length=1, description="package and version, such as cellpose 4.0.6")
    licence: str = Field(min_length=1, description="of package and weights, such as BSD-3-Clause")
    weights: ExternalWeightsParams | None = Field(None, description="null: they are a part of the package")
    timeout_s: float = Field(600.0, gt=0, description="longest wait for a mask")
