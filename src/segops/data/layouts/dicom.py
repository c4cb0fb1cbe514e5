"""Reads the layout of DICOM files in any folders: a series is an image, a SEG or RTSTRUCT that references it its mask.

Several series of a study may be the channels of an image. A mask may also be a series that `ingest.masks` calls so, or
a volume file of another kind in the folder of the series, or in one above it that holds no other series. A patient is a
group, a study where the files name no patient. Neither their ids nor any other text of a header is kept: ids are hashed
with the project's own key, which is in the environment.
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
from segops.data.volumes.dicom import is_dicom, read_header
from segops.data.volumes.segments import is_mask
from segops.data.volumes.series import Series, channels_of, check_frame
from segops.errors import UserError
from segops.params.ingest import PATIENT_KEY, IngestParams
from segops.progress import track

if TYPE_CHECKING:
    from pydicom import Dataset

_FEWEST_CHARACTERS = 16
_HASHED = 12  # hexadecimal digits


@dataclass
class _Found:
    """What a source holds: series and their groups by UID, masks by the UID of their image, and other files.

    Attributes:
        masks: DICOM SEG and RTSTRUCT.
        drawn: series of masks, by the first series of their volume; None: of no volume.
        others: files that aren't DICOM.
    """

    series: dict[str, Series] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    masks: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    drawn: dict[str | None, list[Series]] = field(default_factory=lambda: defaultdict(list))
    others: list[str] = field(default_factory=list)


def dicom(source: Members, params: IngestParams) -> list[Pair]:
    """Pair volumes with their masks: each series, or those of a study that `ingest.stack` calls its channels.

    Raises: UserError where the key of patients isn't set, no series is found, a channel is missing, a volume has no
        mask or two, or a mask no volume.
    """
    key = patient_key()
    found = _sorted_out(source, key)
    drawn = [series for series in found.series.values() if series.is_called(params.masks)]
    images = [series for series in found.series.values() if series not in drawn]
    if not images:
        raise UserError(f"layout dicom finds no DICOM images; {describe_names(source.names, params)}")
    volumes = _volumes(images, params)
    for series in drawn:
        found.drawn[_owner(series, volumes)].append(series)
    masks = {volume[0].uid: _masks(volume, images, found, params) for volume in volumes}
    owners = {series.uid for volume in volumes for series in volume}
    strays = [name for uid, names in found.masks.items() if uid not in owners for name in names]
    strays += [series.files[0] for series in found.drawn[None]]
    check_paired([volume[0].files[0] for volume in volumes if not masks[volume[0].uid][0]], strays, params)
    pairs = []
    for volume in volumes:
        names, rule = masks[volume[0].uid]
        if len(names) > 1:
            both = f"{names[0]} and {names[1]} are both masks of {volume[0].files[0]}"
            raise UserError(f"{both}; leave one out by ingest.exclude")
        if names:
            pairs.append(_pair(volume, names, rule, found, key))
    return pairs


def _volumes(images: list[Series], params: IngestParams) -> list[list[Series]]:
    """Return the series of each volume: one, or where params name channels those of a study."""
    if not params.stack:
        return [[series] for series in images]
    studies: dict[str, list[Series]] = defaultdict(list)
    for series in images:
        studies[series.study].append(series)
    if params.unpaired == "skip":
        return [channels_of(study, params.stack) for study in studies.values() if _has_all(study, params.stack)]
    return [channels_of(study, params.stack) for study in studies.values()]


def _has_all(study: list[Series], stack: list[str]) -> bool:
    """Return whether a study has a series for each channel."""
    return all(any(series.is_called(pattern) for series in study) for pattern in stack)


def _owner(series: Series, volumes: list[list[Series]]) -> str | None:
    """Return the UID of the first series of the volume that a series of masks is of; None: its study has none."""
    of_study = [volume for volume in volumes if volume[0].study == series.study]
    if len(of_study) > 1:
        raise UserError(
            f"{series.files[0]}: a series of masks (ingest.masks), but nothing says which of {len(of_study)} series of "
            "its study it is of; name channels in ingest.stack, or leave series out by ingest.exclude"
        )
    for volume in of_study:
        check_frame(series, volume[0])
        return volume[0].uid
    return None


def _pair(volume: list[Series], masks: tuple[str, ...], rule: MaskRule, found: _Found, key: bytes) -> Pair:
    """Return the pair of a volume, under a name that tells nothing of its patient."""
    first = volume[0]
    firsts = [series.files[0] for series in volume]
    by_first = {series.files[0]: tuple(series.files[1:]) for series in (*volume, *found.drawn[first.uid])}
    return Pair(
        f"{found.groups[first.uid]}/series-{hashed(first.uid, key)}",
        firsts[0],
        masks,
        rule,
        found.groups[first.uid],
        first.modality,
        stacked=tuple(firsts[1:]),
        slices=by_first,
    )


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
        if is_mask(header):
            found.masks[_referenced(header, name)].append(name)
        elif "Rows" in header:
            series = Series.of(header, name)
            found.series.setdefault(series.uid, series).files.append(name)
            found.groups.setdefault(series.uid, _group(header, key))
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


def _masks(
    volume: list[Series], images: list[Series], found: _Found, params: IngestParams
) -> tuple[tuple[str, ...], MaskRule]:
    """Return the masks of a volume: the SEGs that reference it, its series of masks, else files beside it or above."""
    referencing = tuple(name for series in volume for name in found.masks.get(series.uid, ()))
    drawn = tuple(series.files[0] for series in found.drawn[volume[0].uid])
    if referencing or drawn:
        return (*referencing, *drawn), "segments" if referencing else "values"
    own = [series for series in images if series in volume or (params.stack and series.study == volume[0].study)]
    homes = [PurePosixPath(series.files[0]).parent for series in images if series not in own]
    home = PurePosixPath(volume[0].files[0]).parent
    for folder in (home, *home.parents):
        if any(folder in (other, *other.parents) for other in homes):
            break
        beside = [name for name in found.others if PurePosixPath(name).parent == folder and _is_volume(name)]
        if beside:
            return tuple(beside), "values"
    return (), "values"


def _is_volume(name: str) -> bool:
    return image_suffix(name) in VOLUME_SUFFIXES
