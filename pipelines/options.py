"""Defines the options that the commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from segops.params.project import Params, load_params

ParamsFile = Annotated[Path, typer.Option("--params", help="The params file.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="A param, such as split.seed=3; may be repeated.")]
PARAMS = Path("params.yaml")


class Which(StrEnum):
    """The pipelines of the catalogue, which takes a second to import."""

    TRAINING = "training"
    BATCH_INFERENCE = "batch-inference"


Name = Annotated[Which, typer.Option("--pipeline", help="Which pipeline.")]


def given_params(path: Path, changes: list[str] | None) -> Params:
    """Read the params of a file with the command line's changes."""
    from pipelines.overrides import override

    return override(load_params(path), changes or [])
