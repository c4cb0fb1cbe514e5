"""Reads the layout of DICOM files in any folders: a series is an image, a SEG or RTSTRUCT that references it its mask.

A mask may also be a volume file of another kind in the folder of the series, or in one above it that holds no other
series. A patient is a group, a study where the files name no patient. Neither their ids nor any other text of a header
is kept: ids are hashed with the project's own key, which is in the environment.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from segops.data.decoders.kinds import VOLUME_SUFFIXES, image_suffix
from segops.data.layouts.pairing import MaskRule, Members, Pair, check_paired, describe_names
from segops.data.volumes.contours import RTSTRUCT_CLASS
from segops.data.volumes.dicom import is_dicom, read_header
from segops.data.volumes.segments import SEG_CLASSES
from segops.errors import UserError
from segops.params.ingest import PATIENT_KEY, IngestParams
from segops.progress import track

if TYPE_CHECKING:
    from pydicom import Dataset

_FEWEST_CHARACTERS = 16
_HASHED = 12  # hexadecimal digits


@dataclass
class _Series:
    """The files of a series, and what its headers say of it, hashed."""

    group: str
    modality: str
    files: list[str] = field(default_factory=list)


@dataclass
class _Found:
    """What a source holds: series and masks by the UID of the series, and files that aren't DICOM."""

    series: dict[str, _Series] = field(default_factory=dict)
    masks: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    others: list[str] = field(default_factory=list)


def dicom(source: Members, params: IngestParams) -> list[Pair]:
    """Pair series with their masks.

    Raises: UserError where the key of patients isn't set, no series is found, a series has no mask or two, or a mask
        no series.
    """
    key = patient_key()
    found = _sorted_out(source, key)
    if not found.series:
        raise UserError(f"layout dicom finds no DICOM images; {describe_names(source.names, params)}")
    masks = {uid: _masks(uid, found) for uid in found.series}
    strays = [name for uid, names in found.masks.items() if uid not in found.series for name in names]
    check_paired([found.series[uid].files[0] for uid, (names, _) in masks.items() if not names], strays, params)
    pairs = []
    for uid, (names, rule) in masks.items():
        series = found.series[uid]
        if len(names) > 1:
            both = f"{names[0]} and {names[1]} are both masks of {series.files[0]}"
            raise UserError(f"{both}; leave one out by ingest.exclude")
        if names:
            first, *slices = series.files
            name = f"{series.group}/series-{hashed(uid, key)}"
            pairs.append(Pair(name, first, names, rule, series.group, series.modality, slices=tuple(slices)))
    return pairs


def patient_key() -> bytes:
    """Return the project's key for patients' ids. Raises UserError where it isn't set, or is too short to keep."""
    key = os.environ.get(PATIENT_KEY, "")
    if len(key) < _FEWEST_CHARACTERS:
        state = "is too short" if key else "isn't set"
        raise UserError(
            f"{PATIENT_KEY} {state}: patients' ids are hashed with it; set it in the environment to at least "
            f"{_FEWEST_CHARACTERS} characters, the same for all versions of the data, and keep it secret"
        )
    return key.encode()


def hashed(text: str, key: bytes) -> str:
    """Return what stands for an id: nobody without the key can tell it, nor try ids."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:_HASHED]


def _sorted_out(source: Members, key: bytes) -> _Found:
    """Read the headers of all files."""
    found = _Found()
    for name in track(source.names, "reading headers"):
        content = source.read(name)
        if not is_dicom(content):
            found.others.append(name)
            continue
        header = read_header(content, name)
        if header.get("SOPClassUID") in (*SEG_CLASSES, RTSTRUCT_CLASS):
            found.masks[_referenced(header, name)].append(name)
        elif "Rows" in header:
            uid = str(header.get("SeriesInstanceUID", name))
            modality = str(header.get("Modality", "")) or "other"
            found.series.setdefault(uid, _Series(_group(header, key), modality)).files.append(name)
    return found


def _group(header: Dataset, key: bytes) -> str:
    """Return what names the patient of a file, or else its study."""
    patient = str(header.get("PatientID", "")).strip()
    if patient:
        return f"patient-{hashed(patient, key)}"
    return f"study-{hashed(str(header.get('StudyInstanceUID', '')), key)}"


def _referenced(header: Dataset, name: str) -> str:
    """Return the UID of the series that a mask is of. Raises UserError where it names none or several."""
    series = list(header.get("ReferencedSeriesSequence", ()))
    for frame in header.get("ReferencedFrameOfReferenceSequence", ()):  # of an RTSTRUCT
        for study in frame.get("RTReferencedStudySequence", ()):
            series += study.get("RTReferencedSeriesSequence", ())
    if len(series) != 1:
        raise UserError(f"{name}: a mask that references {len(series)} series; it must reference the one it is of")
    return str(series[0].SeriesInstanceUID)


def _masks(uid: str, found: _Found) -> tuple[tuple[str, ...], MaskRule]:
    """Return the masks of a series: the SEGs that reference it, else the volume files beside it or above."""
    if uid in found.masks:
        return tuple(found.masks[uid]), "segments"
    folders = {other: PurePosixPath(series.files[0]).parent for other, series in found.series.items()}
    for folder in (folders[uid], *folders[uid].parents):
        if any(other != uid and folder in (home, *home.parents) for other, home in folders.items()):
            break
        beside = [name for name in found.others if PurePosixPath(name).parent == folder and _is_volume(name)]
        if beside:
            return tuple(beside), "values"
    return (), "values"


def _is_volume(name: str) -> bool:
    return image_suffix(name) in VOLUME_SUFFIXES
