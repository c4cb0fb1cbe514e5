"""Finds the volumes that predict, drift and batch inference receive: files, folders of slices and DICOM series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path

from segops.commands.predict_inputs import files_in, is_folder, root_of, shown, unreadable_file
from segops.data.decoders.kinds import VOLUME_SUFFIXES, image_stem, image_suffix
from segops.data.images import PICTURE_SUFFIXES
from segops.data.name_sequences import natural_order
from segops.data.volumes.dicom import is_dicom, read_header
from segops.data.volumes.segments import is_mask
from segops.data.volumes.series import Series, channels_of
from segops.errors import UserError
from segops.params.file_rules import FileRules
from segops.progress import counted, say

_NIFTI, _SEG = ".nii.gz", ".seg.dcm"
_STACKS = (".tif", ".tiff")  # pictures whose pages may be a volume

Channels = tuple[tuple[Path, ...], ...]


@dataclass(frozen=True)
class VolumeTask:
    """A volume to segment.

    Attributes:
        name: what it is called in predictions.csv.
        channels: the files that hold some of its channels: one, or the slices of a folder or a DICOM series.
        target: the mask to write, without its suffix.
        series: whether its files are a DICOM series.
    """

    name: str
    channels: Channels
    target: Path
    series: bool

    @property
    def mask(self) -> Path:
        """The file of the mask."""
        return self.target.with_name(f"{self.target.name}{_SEG if self.series else _NIFTI}")

    def beside(self, ending: str) -> Path:
        """Return a file beside the mask."""
        return self.target.with_name(f"{self.target.name}{ending}")


def volume_tasks(inputs: list[Path], out: Path, stack: list[str], rules: FileRules) -> list[VolumeTask]:
    """List the volumes of files and folders, by name. A folder of slices or a DICOM series is called by its folder.

    Args:
        stack: the channels of the model's training files: ends of stems, or of DICOM patterns of series.
        rules: how the model's training files were read; pictures are slices where theirs were.

    Raises: UserError: a missing input, no volume, two volumes with the same output, or an output that is an input.
    """
    found = _Found(inputs, out, rules)
    tasks = sorted([*found.of_files(stack), *found.of_series(stack)], key=lambda task: task.name)
    if not tasks:
        kinds = ", ".join(sorted({*VOLUME_SUFFIXES, *_STACKS}))
        held = f"; {found.unread}" if found.unread else ""
        raise UserError(f"{', '.join(map(str, inputs))}: no volume found; supported are {kinds}{held}")
    if found.unread:
        say(f"predict: {found.unread}")
    _check_outputs(tasks)
    return tasks


def _check_outputs(tasks: Sequence[VolumeTask]) -> None:
    """Raise UserError where a mask would overwrite an input or another mask."""
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


class _Found:
    """What the inputs hold.

    Attributes:
        roots: of each file, the folder that its output's path is relative to.
        single: files that are a volume each.
        series: DICOM series by UID, whatever folders and arguments they are spread over, as ingest has them.
        pictures: files that may be slices, by folder.
    """

    def __init__(self, inputs: Sequence[Path], out: Path, rules: FileRules) -> None:
        self._out, self._rules = out, rules
        self.roots: dict[Path, Path] = {}
        self.single: list[Path] = []
        self.series: dict[str, Series] = {}
        self.pictures: dict[Path, list[str]] = defaultdict(list)
        for entry in inputs:
            if not entry.exists():
                raise UserError(f"{entry}: no such file or folder")
            for path in files_in(entry, out) if is_folder(entry) else [entry]:
                if path not in self.roots:
                    self.roots[path] = root_of(entry)
                    self._take(path, alone=path == entry)

    def _take(self, path: Path, *, alone: bool) -> None:
        """Sort a file out. Raises UserError for an unsupported one that an argument names."""
        suffix, slices = image_suffix(path.name), self._rules.slices == "folder"
        if _begins_as_dicom(path):
            header = read_header(path.read_bytes(), str(path))
            if "Rows" in header and not is_mask(header):
                of_file = Series.of(header, str(path))
                self.series.setdefault(of_file.uid, of_file).files.append(str(path))
        elif suffix in VOLUME_SUFFIXES or (suffix in _STACKS and not slices):
            self.single.append(path)
        elif suffix in PICTURE_SUFFIXES and (slices or not alone):
            self.pictures[path.parent].append(str(path))
        elif alone:
            kinds = ", ".join(sorted({*VOLUME_SUFFIXES, *_STACKS}))
            raise UserError(f"{path}: not a supported volume; supported are {kinds}")

    @property
    def unread(self) -> str | None:
        """A line on folders of pictures that aren't slices to this model; None where there are none."""
        if self._rules.slices == "folder" or not self.pictures:
            return None
        folder, names = min(self.pictures.items())
        others = f" and {counted(len(self.pictures) - 1, 'more folder')}" if len(self.pictures) > 1 else ""
        why = "the model was trained on volumes in files; save the slices of a volume as one file"
        return f"{folder}{others}: pictures such as {Path(names[0]).name} aren't read as slices: {why}"

    def of_files(self, stack: list[str]) -> Iterator[VolumeTask]:
        """Yield a task for each file or folder of slices, or for those of its channels, whose names end in `stack`."""
        units: dict[Path, tuple[Path, ...]] = {path: (path,) for path in self.single}
        if self._rules.slices == "folder":
            units |= {folder: tuple(map(Path, natural_order(names))) for folder, names in self.pictures.items()}
        for own, channels in _stacked(units, stack):
            place = _place(channels[0], self.roots[units[channels[0]][0]])
            files = tuple(units[channel] for channel in channels)
            yield VolumeTask(shown(place), files, self._out / place.with_name(own), series=False)

    def of_series(self, stack: list[str]) -> Iterator[VolumeTask]:
        """Yield a task for each series, or for those of a study that are the model's channels.

        Where a folder holds several they are numbered by their first files.
        """
        volumes = [[each] for each in self.series.values()]
        if stack:
            studies: dict[str, list[Series]] = defaultdict(list)
            for each in self.series.values():
                studies[each.study].append(each)
            volumes = [channels_of(study, stack) for study in studies.values()]
        by_folder: dict[Path, list[Channels]] = defaultdict(list)
        for volume in volumes:
            channels = tuple(tuple(sorted(map(Path, each.files))) for each in volume)
            folders = [path.absolute().parent for files in channels for path in files]
            by_folder[Path(commonpath(folders))].append(channels)
        for folder, every in by_folder.items():
            for number, channels in enumerate(sorted(every), start=1):
                place = _place(folder, self.roots[channels[0][0]])
                if len(every) == 1:
                    yield VolumeTask(shown(place), channels, self._out / place, series=True)
                else:
                    target = self._out / place.with_name(f"{place.name}_series{number}")
                    yield VolumeTask(f"{shown(place)}#{number}", channels, target, series=True)


def _stacked(units: Mapping[Path, tuple[Path, ...]], stack: list[str]) -> list[tuple[str, tuple[Path, ...]]]:
    """Join files or folders that are channels of a volume, under its own name.

    Raises: UserError naming what lacks a channel.
    """
    stacks: dict[tuple[Path, ...], str] = {}
    for path, files in units.items():
        stem = image_stem(path.name) if files == (path,) else path.name
        ending = max((text for text in stack if stem.endswith(text)), key=len, default="")
        own, suffix = stem.removesuffix(ending), path.name.removeprefix(stem)
        channels = tuple(path.with_name(f"{own}{text}{suffix}") for text in stack) if ending else (path,)
        if missing := [other for other in channels if other not in units]:
            raise UserError(f"{path}: its channel {missing[0].name} is missing; give all of {', '.join(stack)}")
        stacks[channels] = own
    return [(own, channels) for channels, own in stacks.items()]


def _place(path: Path, root: Path) -> Path:
    """Return a path below a root; of the root itself, or what lies above it, its name."""
    path, root = path.absolute(), root.absolute()
    return path.relative_to(root) if path != root and path.is_relative_to(root) else Path(path.resolve().name)


def _begins_as_dicom(path: Path) -> bool:
    """Return whether a file is DICOM, whatever its name. Raises UserError for one that can't be read."""
    if path.is_dir():  # an OME-Zarr
        return False
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except OSError as error:
        raise unreadable_file(error, path) from None
