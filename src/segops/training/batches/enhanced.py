"""Native images after the steps that change whole images, derived once and kept in the cache.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from segops.data.arrays import FlatWriter, PreparedData
from segops.data.images import FULL_SCALE
from segops.errors import UserError
from segops.files import output_folder, sha256_lines
from segops.inference.steps import InputSteps
from segops.locks import hold
from segops.progress import track
from segops.training.checkpoint import derivation_sha256
from segops.training.input_statistics import enhanced_image

_IMAGES, _OFFSETS = "images.bin", "offsets.json"
_DTYPE = "uint16"  # what clipping spreads out of 8 bits would lose levels in 8 bits
_STEPS = {"channels", "clip", "denoise_sigma_px", "clahe"}


def enhanced(data: PreparedData, steps: InputSteps, cache_root: Path) -> PreparedData:
    """The training and validation images as `InputSteps.enhance` makes them, uint16; `data` itself without such steps.

    Args:
        cache_root: holds one folder a derived file, and its lock.
    """
    if not steps.enhances:
        return data
    name = _name(data, steps)
    folder = cache_root / name
    with hold(folder.with_suffix(".lock")):
        try:
            return _opened(data, steps, folder, name)
        except (FileNotFoundError, ValueError, UserError):  # nothing yet, or a file that a full disk cut short
            with output_folder(folder) as partial:
                _derive(data, steps, partial)
            return _opened(data, steps, folder, name)


def _name(data: PreparedData, steps: InputSteps) -> str:
    """Folds whose clip doesn't depend on their training images share one file: rows and pixels are the same."""
    bounds = [steps.low.flatten().tolist(), steps.high.flatten().tolist(), _rows(data)]
    wanted = json.dumps([steps.given.model_dump(mode="json", include=_STEPS), bounds], sort_keys=True)
    rounding = f"torch {torch.__version__} threads {torch.get_num_threads()}"
    return sha256_lines(
        [data.meta.images_sha256, wanted, derivation_sha256("segops.training.batches.enhanced"), rounding]
    )


def _rows(data: PreparedData) -> list[int]:
    """All outside test."""
    return sorted([*data.rows("train"), *data.rows("val")])


def _derive(data: PreparedData, steps: InputSteps, folder: Path) -> None:
    placed = {}
    with (folder / _IMAGES).open("wb") as file:
        writer = FlatWriter(file)
        for row in track(_rows(data), "input steps"):
            level_HWC = np.rint(enhanced_image(data, row, steps) * np.float32(FULL_SCALE[_DTYPE]))
            placed[row] = writer.append(level_HWC.clip(0, FULL_SCALE[_DTYPE]).astype(_DTYPE))
    (folder / _OFFSETS).write_text(json.dumps(placed), encoding="utf-8")


def _opened(data: PreparedData, steps: InputSteps, folder: Path, name: str) -> PreparedData:
    placed = {int(row): at for row, at in json.loads((folder / _OFFSETS).read_text(encoding="utf-8")).items()}
    return data.with_images(folder / _IMAGES, placed, dtype=_DTYPE, channels=steps.given.channels, sha256=name)
