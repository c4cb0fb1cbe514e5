"""Removes checkpoints and derived arrays that no present model refers to, and what was fetched."""

from __future__ import annotations

import shutil
from pathlib import Path

from segops.contracts.model import TrainedModel
from segops.data.sources.source import DOWNLOADS
from segops.files import project_root
from segops.params.runtime import RuntimeParams


def clean(runtime: RuntimeParams, *, models: Path) -> list[Path]:
    """Remove checkpoint folders whose key no `models/*/model.json` holds, all derived arrays, and all downloads.

    A folder that a running process holds locked is kept. Return what was removed.
    """
    from segops.locks import is_held
    from segops.training.checkpoint import is_locked

    root = project_root()
    present = [TrainedModel.load(folder.parent) for folder in models.glob("*/model.json")]
    keys = {key for model in present for key in model.checkpoints}
    old = [
        folder
        for folder in _folders(root / runtime.checkpoint_root)
        if folder.name not in keys and not is_locked(folder)
    ]
    derived = [*_folders(root / runtime.cache_root), *_folders(root / DOWNLOADS)]
    removed = old + [folder for folder in derived if not is_held(folder.with_name(f"{folder.name}.lock"))]
    for folder in removed:
        shutil.rmtree(folder)
    return removed


def _folders(root: Path) -> list[Path]:
    """List the folders in a folder, sorted; none where it is missing."""
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
