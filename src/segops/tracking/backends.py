"""Keeps a version's measured backends beside its weights."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from segops.contracts.backends import Backends
from segops.params.tracking import TrackingParams
from segops.tracking import artifacts, model, registry, store


def keep_backends(tracking: TrackingParams, version: int, folder: Path) -> None:
    """Upload a folder of backends.json and its files to a version's logged model."""
    client = store.client(tracking)
    with store.answering(), tempfile.TemporaryDirectory() as scratch:
        source = registry.resolve(client, tracking.model_name, str(version)).source
        shutil.copytree(folder, Path(scratch) / model.FOLDER / Backends.FOLDER)
        client.log_model_artifacts(source.removeprefix("models:/"), scratch)


def fetch_backends(tracking: TrackingParams, version: int, names: tuple[str, ...], folder: Path) -> bool:
    """Download files of a version's backends into a folder, and say whether the version has them."""
    client = store.client(tracking)
    folder.mkdir(parents=True, exist_ok=True)
    with store.answering():
        source = registry.resolve(client, tracking.model_name, str(version)).source
        location = client.get_logged_model(source.removeprefix("models:/")).artifact_location
        try:
            for name in names:
                artifacts.fetch(location, f"{model.FOLDER}/{Backends.FOLDER}/{name}", folder)
        except FileNotFoundError:
            return False
    return True
