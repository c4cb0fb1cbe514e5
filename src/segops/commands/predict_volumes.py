"""Finds the volumes that predict receives, and writes their masks: NIfTI, or DICOM SEG for a DICOM series.

Axes: D depth, H height, W width, C channels, K output channels.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segops.commands.predict_inputs import display_name, files_in, is_folder, root_of
from segops.contracts.volumes import Spacing, is_known
from segops.data.decoders.kinds import VOLUME_SUFFIXES, image_stem, image_suffix
from segops.data.read_changes import ChangeLog
from segops.data.sources.source import check_encoding, read_member
from segops.data.volumes.dicom import BURNED_IN, is_dicom, read_header
from segops.data.volumes.read import read_volume, unpacked
from segops.data.volumes.series import Series, channels_of
from segops.data.volumes.write import Algorithm, nifti_mask, seg_mask
from segops.errors import UserError
from segops.params.file_rules import FileRules
from segops.progress import say

if TYPE_CHECKING:
    from segops.data.volumes.grid import Grid
    from segops.inference.predict import Predictor

_SUFFIXES = {*VOLUME_SUFFIXES, ".tif", ".tiff"}
_NIFTI, _SEG = ".nii.gz", ".seg.dcm"


@dataclass(frozen=True)
class VolumeTask:
    """A volume to segment.

    Attributes:
        name: what it is called in predictions.csv.
        channels: the files that hold some of its channels: one, or the slices of a series.
        target: the mask to write, without its suffix.
        series: whether its files are a DICOM series.
    """

    name: str
    channels: tuple[tuple[Path, ...], ...]
    target: Path
    series: bool

    @property
    def mask(self) -> Path:
        """The file of the mask."""
        return self.target.with_name(f"{self.target.name}{_SEG if self.series else _NIFTI}")

    def beside(self, ending: str) -> Path:
        """Return a file beside the mask."""
        return self.target.with_name(f"{self.target.name}{ending}")


def volume_tasks(inputs: list[Path], out: Path, stack: list[str]) -> list[VolumeTask]:
    """List the volumes of files and folders, by name. A DICOM series is called by the folder that holds it.

    Raises: UserError: a missing input, no volume, two volumes with the same output, or an output that is an input.
    """
    tasks = [task for entry in inputs for task in _tasks(entry, inputs, out, stack)]
    if not tasks:
        kinds = ", ".join(sorted(_SUFFIXES))
        raise UserError(f"{', '.join(map(str, inputs))}: no volume found; supported are {kinds}")
    taken: dict[Path, str] = {}
    originals = {path.resolve() for task in tasks for files in task.channels for path in files}
    for task in tasks:
        if task.mask.resolve() in originals:
            raise UserError(
                f"{task.name}: its mask would overwrite the input {task.mask}; choose another output folder"
            )
        if task.mask in taken:
            both = f"{taken[task.mask]} and {task.name}"
            raise UserError(f"{both} would both write {task.mask}; rename one or predict in two runs")
        taken[task.mask] = task.name
    return sorted(tasks, key=lambda task: task.name)


def _tasks(entry: Path, inputs: list[Path], out: Path, stack: list[str]) -> list[VolumeTask]:
    """List the volumes that an argument names."""
    if not entry.exists():
        raise UserError(f"{entry}: no such file or folder")
    files = files_in(entry, out) if is_folder(entry) else [entry]
    series: dict[tuple[Path, str], Series] = {}
    single: list[Path] = []
    for path in files:
        if _begins_as_dicom(path):
            header = read_header(path.read_bytes(), str(path))
            if "Rows" in header and "ReferencedSeriesSequence" not in header:
                of_file = Series.of(header, str(path))
                series.setdefault((path.parent, of_file.uid), of_file).files.append(str(path))
        elif image_suffix(path.name) in _SUFFIXES:
            single.append(path)
        elif not is_folder(entry):
            raise UserError(f"{entry}: not a supported volume; supported are {', '.join(sorted(_SUFFIXES))}")
    return [
        *_of_files(single, entry, inputs, out, stack),
        *_of_series(list(series.values()), entry, inputs, out, stack),
    ]


def _of_files(files: list[Path], entry: Path, inputs: list[Path], out: Path, stack: list[str]) -> list[VolumeTask]:
    """Return a task for each file, or for the files of its channels, whose stems end as the model's training files."""
    tasks: dict[tuple[Path, ...], VolumeTask] = {}
    there = set(files)
    for path in files:
        stem, suffix = image_stem(path.name), path.name.removeprefix(image_stem(path.name))
        ending = max((text for text in stack if stem.endswith(text)), key=len, default="")
        own = stem.removesuffix(ending)
        channels = tuple(path.with_name(f"{own}{text}{suffix}") for text in stack) if ending else (path,)
        if missing := [other for other in channels if other not in there]:
            raise UserError(f"{path}: its channel {missing[0].name} is missing; give all of {', '.join(stack)}")
        target = out / path.relative_to(root_of(entry)).with_name(own)
        name = display_name(channels[0], inputs)
        tasks[channels] = VolumeTask(name, tuple((other,) for other in channels), target, series=False)
    return list(tasks.values())


def _of_series(series: list[Series], entry: Path, inputs: list[Path], out: Path, stack: list[str]) -> list[VolumeTask]:
    """Return a task for each series, or for those of a study that are the model's channels.

    Where a folder holds several they are numbered by their first files.
    """
    volumes = [[each] for each in series]
    if stack:
        studies: dict[str, list[Series]] = defaultdict(list)
        for each in series:
            studies[each.study].append(each)
        volumes = [channels_of(study, stack) for study in studies.values()]
    by_folder: dict[Path, list[tuple[tuple[Path, ...], ...]]] = defaultdict(list)
    for volume in volumes:
        channels = tuple(tuple(sorted(map(Path, each.files))) for each in volume)
        by_folder[Path(commonpath([paths[0].parent for paths in channels]))].append(channels)
    tasks = []
    for folder, every in by_folder.items():
        for number, channels in enumerate(sorted(every), start=1):
            place = folder.relative_to(root_of(entry)) if folder != root_of(entry) else Path(folder.resolve().name)
            target = out / (place if len(every) == 1 else place.with_name(f"{place.name}_series{number}"))
            name = display_name(folder, inputs) if folder != root_of(entry) else place.name
            tasks.append(VolumeTask(name if len(every) == 1 else f"{name}#{number}", channels, target, True))
    return tasks


def _begins_as_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return is_dicom(file.read(132))


def read_task(task: VolumeTask, rules: FileRules) -> tuple[npt.NDArray[Any], Spacing | None]:
    """Read a volume DHWC, and the distance of its voxels; None where its files don't say it."""
    names = [tuple(map(str, files)) for files in task.channels]
    image_DHWC, grid = read_volume(lambda name: _read(Path(name)), names, ChangeLog(), rules)
    return image_DHWC, grid.spacing_mm if is_known(grid.spacing_mm) else None


@dataclass(frozen=True)
class SegmentedVolume:
    """A volume's mask, what the model says of it, and the files to write."""

    mask_DHW: npt.NDArray[np.uint8]
    probability_KDHW: npt.NDArray[np.float32]
    objects: int | None
    files: dict[Path, bytes]


def segment_volume(predictor: Predictor, task: VolumeTask, *, overlays: bool) -> SegmentedVolume:
    """Segment a volume, and encode its mask: class indices on the source's own grid, its objects, and its overlay.

    Args:
        overlays: also draw three planes through the mask.

    Raises: UserError for files that can't be read, or aren't volumes.
    """
    read = cache(lambda name: _read(Path(name)))
    changes, names = ChangeLog(), [tuple(map(str, files)) for files in task.channels]
    image_DHWC, grid = read_volume(read, names, changes, predictor.model.files)
    if any(entry.change == BURNED_IN for entry in changes.entries()):
        say(f"{task.name}: {BURNED_IN}")
    spacing_mm = grid.spacing_mm if is_known(grid.spacing_mm) else None
    try:
        maps = predictor.maps(image_DHWC, spacing_mm)
    except UserError as error:
        raise UserError(f"{names[0][0]}: {error}") from None
    mask_DHW = predictor.decide(maps.probability_KHW)
    series = [(name, read(name)) for name in names[0]] if task.series else None
    first = unpacked(read(names[0][0]), names[0][0])
    encoded = _Encoder(grid, first if names[0][0].lower().endswith((".nii", _NIFTI)) else None)
    files: dict[Path, bytes] = {}
    if series is None:
        files[task.mask] = encoded(mask_DHW)
    else:
        model = predictor.model
        algorithm = Algorithm(model.candidate, model.key[:12], model.weights_sha256)
        files[task.mask] = seg_mask(mask_DHW, series, model.classes[1:], algorithm)
    objects_DHW = predictor.objects(mask_DHW, maps)
    if objects_DHW is not None:
        files[task.beside(f".objects{_NIFTI}")] = encoded(objects_DHW.astype(np.uint16))
    if overlays:
        files[task.beside(".overlay.png")] = _overlay(image_DHWC, mask_DHW, spacing_mm, predictor)
    objects = None if objects_DHW is None else int(objects_DHW.max(initial=0))
    return SegmentedVolume(mask_DHW, maps.probability_KHW, objects, files)


@dataclass(frozen=True)
class _Encoder:
    """Encodes masks of a volume as NIfTI."""

    grid: Grid
    source: bytes | None

    def __call__(self, mask_DHW: npt.NDArray[Any]) -> bytes:
        return nifti_mask(mask_DHW, self.grid, self.source)


def _overlay(image_DHWC: Any, mask_DHW: Any, spacing_mm: Any, predictor: Predictor) -> bytes:
    """Draw three planes of a volume with its mask tinted and outlined."""
    from segops.pictures.images import overlay, png
    from segops.pictures.planes import planes_of

    show = planes_of(mask_DHW, mask_DHW, spacing_mm)
    return png(overlay(show(image_DHWC), show(mask_DHW), predictor.model.class_colours))


def _read(path: Path) -> bytes:
    """Read a file. Raises UserError where it can't be."""
    check_encoding(path)
    try:
        return read_member(path)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check the file's permissions") from None
