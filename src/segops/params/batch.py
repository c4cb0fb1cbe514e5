"""Defines the params of batch inference: many images through a registered model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from segops.params.export import Backend
from segops.params.section import Section


def _text(value: Any) -> Any:
    return str(value) if type(value) is int else value  # a version's number


class BatchParams(Section):
    """What the batch-inference pipeline segments, and with what."""

    source: str | None = Field(
        None,
        description="images: s3://, http(s)://, dvc://repo@rev#path, lakefs://repo/ref/path, a folder, a .zip, .tar, "
        ".tar.gz or .tgz",
    )
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="expected hash of the archive; http(s):// needs it"
    )
    model: Annotated[str, BeforeValidator(_text, json_schema_input_type=int | str)] = Field(
        "champion", min_length=1, description="an alias or version of tracking.model_name"
    )
    bits: Literal[8, 10, 12, 14, 16] | None = Field(
        None, description="that 16-bit samples use, for a model that has seen 8-bit ones alone"
    )
    backend: Literal["auto"] | Backend = Field(
        "torch", description="what runs the network: auto, or one of those that `segops export` measured"
    )
    overlays: bool = Field(False, description="also write the outlines over the images")
