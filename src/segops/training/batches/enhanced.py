"""Derives native images after the steps that change whole images, once, and keeps them in the cache.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from segops.data.arrays import PreparedData
from segops.data.flat_files import FlatWriter
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
_STEPS = {"channels", "clip", "despeckle", "denoise_sigma_px", "clahe"}


def enhanced(data: PreparedData, steps: InputSteps, cache_root: Path) -> PreparedData:
    """Return the training and validation images after `InputSteps.enhance`, uint16; `data` itself without such steps.

    Args:
        cache_root: holds a folder for each derived file, and its lock.
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
    """Hash what the files depend on.

    Folds whose clip doesn't depend on their training images share a file: rows and pixels are the same.
    """
    bounds = [steps.low.flatten().tolist(), steps.high.flatten().tolist(), _rows(data)]
    wanted = json.dumps([steps.input_params.model_dump(mode="json", include=_STEPS), bounds], sort_keys=True)
    rounding = f"torch {torch.__version__} threads {torch.get_num_threads()}"
    return sha256_lines(
        [data.meta.scaled_images_sha256, wanted, derivation_sha256("segops.training.batches.enhanced"), rounding]
    )


def _rows(data: PreparedData) -> list[int]:
    """Return the rows outside test, ascending."""
    return sorted([*data.rows("train"), *data.rows("val")])


def _derive(data: PreparedData, steps: InputSteps, folder: Path) -> None:
    """Write the enhanced images into a flat file, and their offsets beside it."""
    offsets = {}
    with (folder / _IMAGES).open("wb") as file:
        writer = FlatWriter(file)
        for row in track(_rows(data), "input steps"):
            level_HWC = np.rint(enhanced_image(data, row, steps) * np.float32(FULL_SCALE[_DTYPE]))
            offsets[row] = writer.append(level_HWC.clip(0, FULL_SCALE[_DTYPE]).astype(_DTYPE))
    (folder / _OFFSETS).write_text(json.dumps(offsets), encoding="utf-8")


def _opened(data: PreparedData, steps: InputSteps, folder: Path, name: str) -> PreparedData:
    """Open the data with the derived images in place of its own."""
    offsets = {int(row): offset for row, offset in json.loads((folder / _OFFSETS).read_text(encoding="utf-8")).items()}
    return data.with_images(folder / _IMAGES, offsets, dtype=_DTYPE, channels=steps.input_params.channels, sha256=name)
