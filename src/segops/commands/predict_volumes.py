"""Segments the volumes that predict receives, and encodes their masks: NIfTI, or DICOM SEG for a DICOM series.

Axes: D depth, H height, W width, C channels, K output channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segops.commands.predict_inputs import unreadable_file
from segops.commands.volume_inputs import VolumeTask
from segops.contracts.volumes import Spacing, is_known
from segops.data.decoders.kinds import image_suffix
from segops.data.images import PICTURE_SUFFIXES
from segops.data.layouts.slice_folders import check_numbers, check_slices
from segops.data.read_changes import ChangeLog
from segops.data.sources.source import check_encoding, read_member
from segops.data.volumes.dicom import BURNED_IN
from segops.data.volumes.read import read_volume, unpacked
from segops.data.volumes.write import Algorithm, nifti_mask, seg_mask
from segops.errors import reworded
from segops.params.file_rules import FileRules
from segops.progress import say

if TYPE_CHECKING:
    from segops.data.volumes.grid import Grid
    from segops.inference.predict import Predictor

_NIFTI = ".nii.gz"


def read_task(task: VolumeTask, rules: FileRules) -> tuple[npt.NDArray[Any], Spacing | None]:
    """Read a volume DHWC, and the distance of its voxels; None where its files don't say it."""
    image_DHWC, grid = _volume(task, _read, ChangeLog(), rules)
    return image_DHWC, _spacing(grid)


def _volume(
    task: VolumeTask, read: Callable[[str], bytes], changes: ChangeLog, rules: FileRules
) -> tuple[npt.NDArray[Any], Grid]:
    """Read a volume and its grid. Raises UserError for files that aren't one."""
    names = [tuple(map(str, files)) for files in task.channels]
    slices = PICTURE_SUFFIXES if rules.slices == "folder" else ()
    folders = [] if task.series else [files for files in names if image_suffix(files[0]) in slices]
    with reworded(lambda text: text.replace("out by ingest.exclude", "out of the inputs")):
        for files in folders:
            check_slices(files)
        check_numbers(folders)
        return read_volume(read, names, changes, rules)


def _spacing(grid: Grid) -> Spacing | None:
    """Return the distance of a grid's voxels; None where it isn't known."""
    return grid.spacing_mm if is_known(grid.spacing_mm) else None


@dataclass(frozen=True)
class SegmentedVolume:
    """A volume's mask, what the model says of it, and the files to write."""

    mask_DHW: npt.NDArray[np.uint8]
    probability_KDHW: npt.NDArray[np.float32]
    files: dict[Path, bytes]


def segment_volume(predictor: Predictor, task: VolumeTask, *, overlays: bool) -> SegmentedVolume:
    """Segment a volume, and encode its mask: class indices on the source's own grid, and its overlay.

    Args:
        overlays: also draw three planes through the mask.

    Raises: UserError for files that can't be read, or aren't volumes.
    """
    read, changes = cache(_read), ChangeLog()
    image_DHWC, grid = _volume(task, read, changes, predictor.model.files)
    if any(entry.change == BURNED_IN for entry in changes.entries()):
        say(f"{task.name}: {BURNED_IN}")
    spacing_mm, names = _spacing(grid), [str(path) for path in task.channels[0]]
    with reworded(lambda text: f"{names[0]}: {text}"):
        maps = predictor.maps(image_DHWC, spacing_mm)
    mask_DHW = predictor.decide(maps.probability_KHW)
    files: dict[Path, bytes] = {}
    if task.series:
        model = predictor.model
        algorithm = Algorithm(model.candidate, model.key[:12], model.weights_sha256)
        files[task.mask] = seg_mask(mask_DHW, [(name, read(name)) for name in names], model.classes[1:], algorithm)
    else:
        source = unpacked(read(names[0]), names[0]) if names[0].lower().endswith((".nii", _NIFTI)) else None
        files[task.mask] = nifti_mask(mask_DHW, grid, source)
    if overlays:
        files[task.beside(".overlay.png")] = _overlay(image_DHWC, mask_DHW, spacing_mm, predictor)
    return SegmentedVolume(mask_DHW, maps.probability_KHW, files)


def _overlay(image_DHWC: Any, mask_DHW: Any, spacing_mm: Any, predictor: Predictor) -> bytes:
    """Draw three planes of a volume with its mask tinted and outlined."""
    from segops.pictures.images import overlay, png
    from segops.pictures.planes import planes_of

    show = planes_of(mask_DHW, mask_DHW, spacing_mm)
    return png(overlay(show(image_DHWC), show(mask_DHW), predictor.model.class_colours))


def _read(name: str) -> bytes:
    """Read a file. Raises UserError where it can't be."""
    path = Path(name)
    check_encoding(path)
    try:
        return read_member(path)
    except OSError as error:
        raise unreadable_file(error, path) from None
