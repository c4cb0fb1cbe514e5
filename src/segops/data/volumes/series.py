"""Tells DICOM series apart by their headers, and which series of a study are the channels of a volume.

What a header says of a series is compared with patterns and never kept, nor is it in an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from segops.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True)
class Series:
    """A series of slices.

    Attributes:
        uid, study: its own id, and its study's.
        frame: id of the frame of reference that its positions are in; empty where it isn't said.
        names: what a pattern may match, in small letters: its description, its modality, the name of its folder.
        files: in the order in which they were found.
    """

    uid: str
    study: str
    frame: str
    modality: str
    names: tuple[str, ...]
    files: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, header: Dataset, file: str) -> Series:
        """Return the series of a file, still without files."""
        text = {tag: str(header.get(tag, "")).strip() for tag in _TAGS}
        modality = text["Modality"]
        names = (text["SeriesDescription"], modality, PurePosixPath(file).parent.name)
        return cls(
            text["SeriesInstanceUID"] or file,
            text["StudyInstanceUID"],
            text["FrameOfReferenceUID"],
            modality or "other",
            tuple(name.casefold() for name in names if name),
        )

    def is_called(self, pattern: str) -> bool:
        """Return whether a glob such as `*flair*` matches one of its names, in small or large letters."""
        return any(fnmatchcase(name, pattern.casefold()) for name in self.names)


_TAGS = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SeriesDescription", "Modality")


def channels_of(study: Sequence[Series], stack: Sequence[str]) -> list[Series]:
    """Return the series of a study that hold a volume's channels, in the order of `stack`, a pattern each.

    Raises: UserError where none or several match a pattern, one matches two, or their positions are in different
        frames of reference, so that equal positions need not be the same place.
    """
    chosen: list[Series] = []
    for pattern in stack:
        matching = [series for series in study if series.is_called(pattern)]
        if not matching:
            raise UserError(
                f"{study[0].files[0]}: no series of its study is called '{pattern}' (ingest.stack) by its description, "
                "modality or folder; correct the pattern, or leave the study out by ingest.exclude"
            )
        if len(matching) > 1:
            both = f"{matching[0].files[0]} and {matching[1].files[0]}"
            raise UserError(
                f"{both} are of two series of a study, both called '{pattern}' (ingest.stack); narrow the pattern, or "
                "leave one out by ingest.exclude"
            )
        (series,) = matching
        if series in chosen:
            raise UserError(
                f"{series.files[0]}: its series is called both '{stack[chosen.index(series)]}' and '{pattern}' "
                "(ingest.stack); narrow a pattern"
            )
        check_frame(series, (chosen or [series])[0])
        chosen.append(series)
    return chosen


def check_frame(series: Series, other: Series) -> None:
    """Raise UserError where the positions of two series are in different frames of reference."""
    if series.frame and other.frame and series.frame != other.frame:
        raise UserError(
            f"{series.files[0]}: its frame of reference isn't that of {other.files[0]}, so that nothing says which "
            "voxels are the same place; register and resample it, and save it in that frame"
        )
