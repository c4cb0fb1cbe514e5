"""Finds the model that a command was asked to use: a registered version, or a candidate's folder."""

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
    """A model to use: where its files are, and what it is called.

    Attributes:
        folder: holds model.json and weights.safetensors; temporary for a version.
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
    """Open a model's folder; a registered version is downloaded to a temporary folder.

    Args:
        model: an alias or version of the registered model, or a folder with model.json and weights.safetensors.
        also: other files of a version that are wanted.

    Raises:
        UserError: there is no such version.
        TryAgainError: MLflow is away.
    """
    if Path(model).is_dir() or os.sep in model:
        yield UsedModel(Path(model), model)
        return
    from segops.tracking.promoted import fetch

    with TemporaryDirectory(prefix="segops-") as folder:
        fetched = fetch(tracking, model, Path(folder), also)
        yield UsedModel(fetched.folder, fetched.shown, fetched.model_name, fetched.version)
