"""The model that a command was asked to use: a registered version, or a candidate's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from segops.params.tracking import TrackingParams


@dataclass(frozen=True)
class UsedModel:
    """Where its files are, and what it is called.

    Attributes:
        folder: with model.json and weights.safetensors; of a version there for the time being.
        shown: its name for people.
        model_name: the registered model; None for a folder.
        version: None for a folder.
    """

    folder: Path
    shown: str
    model_name: str | None = None
    version: int | None = None


@contextmanager
def used_model(model: str, tracking: TrackingParams, also: tuple[str, ...] = ()) -> Iterator[UsedModel]:
    """Find a model.

    Args:
        model: an alias or version of the registered model, or a folder with model.json and weights.safetensors.
        also: other files of a version that are wanted.

    Raises:
        UserError: MLflow is away, or there is no such version.
    """
    if Path(model).is_dir() or os.sep in model:
        yield UsedModel(Path(model), model)
        return
    from segops.tracking.promoted import fetch

    with TemporaryDirectory(prefix="segops-") as folder:
        found = fetch(tracking, model, Path(folder), also)
        yield UsedModel(found.folder, found.shown, found.model_name, found.version)
