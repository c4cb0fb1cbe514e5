"""Gives prepared data as a candidate's networks see them: slices of volumes, or volumes at its spacing.

Volumes at another spacing, and those that steps change as a whole, are derived once, and kept in the cache.

Axes: D depth, H height, W width, C channels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from segops.contracts.volumes import SPACING_COLUMNS, Spacing
from segops.data.arrays import PreparedData
from segops.data.flat_files import IMAGES, MASKS, FlatWriter
from segops.data.resampling import Resampling
from segops.data.slices import SliceData
from segops.data.volume_steps import after_steps
from segops.errors import UserError, reworded
from segops.files import output_folder, sha256_lines
from segops.locks import hold
from segops.params.input import InputParams
from segops.params.volume_steps import VolumeStepsParams
from segops.progress import track
from segops.training.checkpoint import derivation_sha256

_ENTRIES = "entries.json"


def as_seen(data: PreparedData, params: InputParams, cache_root: Path) -> PreparedData:
    """Return training and validation images as a candidate's input asks for them; pictures as they are.

    Args:
        cache_root: holds a folder for each derived file, and its lock.
    """
    if params.volume is not None and params.volume.change:
        data = _after_steps(data, params.volume, cache_root)
    if params.slices is not None:
        return SliceData(data, params.slices)
    if params.spacing_mm is None:
        return data
    return _at_spacing(data, params.spacing_mm, cache_root)


def _after_steps(data: PreparedData, steps: VolumeStepsParams, cache_root: Path) -> PreparedData:
    """Return training and validation volumes after the steps that change them as a whole, float32."""
    wanted = json.dumps([steps.model_dump(mode="json"), _rows(data)])
    hashes = [data.meta.scaled_images_sha256, str(data.meta.spacings_sha256)]
    name = sha256_lines([*hashes, wanted, derivation_sha256("segops.data.volume_steps")])
    folder = cache_root / name
    with hold(folder.with_suffix(".lock")):
        try:
            return _with_offsets(data, folder, name)
        except (FileNotFoundError, ValueError, UserError):  # nothing yet, or a file that a full disk cut short
            with output_folder(folder) as partial, (partial / IMAGES).open("wb") as images:
                writer, offsets = FlatWriter(images), {}
                for row in track(_rows(data), "steps on volumes"):
                    image_id = str(data.index["image_id"].iloc[row])
                    offsets[row] = writer.append(after_steps(data.image(row), data.spacing_mm(row), steps, image_id))
                (partial / _ENTRIES).write_text(json.dumps(offsets), encoding="utf-8")
            return _with_offsets(data, folder, name)


def _with_offsets(data: PreparedData, folder: Path, name: str) -> PreparedData:
    """Open the data with the changed volumes in place of its own; they have the same sizes."""
    offsets = {int(row): offset for row, offset in json.loads((folder / _ENTRIES).read_text(encoding="utf-8")).items()}
    numbers = sorted({int(number) for number in data.index["channels"]})
    if len(numbers) > 1:
        raise UserError(f"input.volume: volumes of {' and '.join(map(str, numbers))} channels; give all the same")
    return data.with_images(folder / IMAGES, offsets, dtype="float32", channels=numbers[0], sha256=name)


def _at_spacing(data: PreparedData, spacing_mm: Spacing, cache_root: Path) -> PreparedData:
    """Return training and validation volumes at a spacing, float32 whose full scale is 1 or in their own units."""
    wanted = json.dumps([spacing_mm, sorted(_rows(data))])
    code = derivation_sha256("segops.training.batches.seen")
    hashes = [data.meta.scaled_images_sha256, data.meta.masks_sha256, str(data.meta.spacings_sha256)]
    name = sha256_lines([*hashes, wanted, code])
    folder = cache_root / name
    with hold(folder.with_suffix(".lock")):
        try:
            return _opened(data, folder, name)
        except (FileNotFoundError, ValueError, UserError):  # nothing yet, or a file that a full disk cut short
            with output_folder(folder) as partial:
                _derive(data, spacing_mm, partial)
            return _opened(data, folder, name)


def _rows(data: PreparedData) -> list[int]:
    """Return the rows outside test."""
    return sorted([*data.rows("train"), *data.rows("val")])


def _opened(data: PreparedData, folder: Path, name: str) -> PreparedData:
    """Open the data with the derived volumes in place of its own."""
    entries = json.loads((folder / _ENTRIES).read_text(encoding="utf-8"))
    return data.with_volumes(folder, {int(row): entry for row, entry in entries.items()}, sha256=name)


def _derive(data: PreparedData, spacing_mm: Spacing, folder: Path) -> None:
    """Write images and masks at the spacing, volume by volume, and what of the index is another."""
    entries: dict[int, dict[str, Any]] = {}
    with (folder / IMAGES).open("wb") as images, (folder / MASKS).open("wb") as masks:
        image_file, mask_file = FlatWriter(images), FlatWriter(masks)
        for row in track(_rows(data), f"resample to {' x '.join(f'{step:g}' for step in spacing_mm)} mm"):
            native_mm = data.spacing_mm(row)
            assert native_mm is not None, "check_images refuses an unknown spacing"
            with reworded(f"{data.index['image_id'].iloc[row]}: ".__add__):
                resampling = Resampling.between(data.size(row), native_mm, spacing_mm)
            depth, height, width = resampling.target_DHW
            scaled_DHWC = data.image(row).astype(np.float32) / np.float32(data.full_scale(data.image(row).dtype))
            entries[row] = {
                "depth": depth,
                "height": height,
                "width": width,
                **dict(zip(SPACING_COLUMNS, spacing_mm, strict=True)),
                "dtype": "float32",
                "image_offset": image_file.append(resampling.image(scaled_DHWC)),
                "mask_offset": mask_file.append(resampling.mask(data.mask(row))),
            }
    (folder / _ENTRIES).write_text(json.dumps(entries), encoding="utf-8")
