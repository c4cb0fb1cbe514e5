"""Proposes layouts of volumes: the Decathlon's list, DICOM series or the channels of studies, folders of slices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from segops.data.decoders.kinds import VOLUME_SUFFIXES, image_suffix
from segops.data.layouts.pairing import Members
from segops.data.layouts.patterns import literal
from segops.data.volumes.contours import RTSTRUCT_CLASS
from segops.data.volumes.dicom import is_dicom, read_header
from segops.data.volumes.segments import is_mask
from segops.data.volumes.series import Series
from segops.errors import UserError
from segops.files import parse_json
from segops.params.file_rules import Dimensions
from segops.planning.families import Proposed
from segops.planning.slice_folders import slice_folder_proposals
from segops.planning.words import role

if TYPE_CHECKING:
    from pydicom import Dataset

_LOOKED_AT = 20  # files without a known suffix, evenly spread, that may be DICOM


class VolumeProposals(NamedTuple):
    """Whether most of a source's image files are volumes, and layouts that volumes alone have."""

    dimensions: Dimensions
    proposals: list[Proposed]


def volume_proposals(source: Members, files: Sequence[str]) -> VolumeProposals:
    """Say whether most of a source's image files are volumes, and propose the layouts of such.

    Args:
        files: the images among the source's members.
    """
    volumes = [name for name in files if image_suffix(name) in VOLUME_SUFFIXES]
    dicom = [name for name in volumes if VOLUME_SUFFIXES[image_suffix(name)] == "DICOM"]
    whole = [*_decathlon(source), *(_dicom(source) if dicom or not files else ())]
    proposals = [Proposed({**params, "dimensions": 3}, why, True) for params, why in whole]
    proposals += slice_folder_proposals(source, files)
    return VolumeProposals(3 if whole or 2 * len(volumes) > len(files) else 2, proposals)


def _decathlon(source: Members) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the layout that dataset.json lists, with the classes that it names."""
    name = next((name for name in source.names if PurePosixPath(name).name == "dataset.json"), None)
    if name is None:
        return
    try:
        about = parse_json(source.read(name))
        entry = about["training"][0]
        labels = {int(value): str(label) for value, label in about["labels"].items()}
        modalities = len(about.get("modality", ()))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return
    if isinstance(entry, dict) and {"image", "label"} <= set(entry):
        axis = {"fourth_axis": "channels"} if modalities > 1 else {}
        values = dict(sorted(labels.items()))
        yield {"layout": "decathlon", "mask_values": values, **axis}, f"{name} lists images and labels"


def _dicom(source: Members) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the layouts of DICOM series, with the labels of their SEGs as classes: an image each, or channels."""
    step = -(-len(source.names) // _LOOKED_AT)
    try:
        if not any(is_dicom(source.read(name)) for name in source.names[:: max(1, step)]):
            return
    except UserError:
        return
    labels: set[str] = set()
    patients: set[str] = set()
    series: dict[str, Series] = {}
    for name, header in _headers(source):
        if is_mask(header):
            labels |= set(_segment_labels(header))
        elif "Rows" in header:
            patients.add(str(header.get("PatientID", "")))
            of_file = Series.of(header, name)
            series.setdefault(of_file.uid, of_file).files.append(name)
    named = {"mask_values": dict(enumerate(["background", *sorted(labels)]))} if labels else {}
    yield {"layout": "dicom", **named}, "DICOM series, with the SEG that references each or a mask beside it"
    # What series of one patient are called may tell of that patient.
    for params in _channels(list(series.values())) if len(patients) > 1 else ():
        called = ", ".join([*params.get("stack", ()), *([f"{params['masks']} (masks)"] if "masks" in params else ())])
        yield {"layout": "dicom", **params, **named}, f"each study has series called {called}"


def _headers(source: Members) -> Iterator[tuple[str, Dataset]]:
    """Yield the headers of a source's DICOM files."""
    for name in source.names:
        content = source.read(name)
        if is_dicom(content):
            with suppress(UserError):  # ingest tells it
                yield name, read_header(content, name)


def _segment_labels(header: Dataset) -> list[str]:
    """Return the labels of a mask's segments."""
    if header.get("SOPClassUID") == RTSTRUCT_CLASS:
        return [str(structure.ROIName) for structure in header.get("StructureSetROISequence", ())]
    return [str(segment.SegmentLabel) for segment in header.get("SegmentSequence", ())]


def _channels(series: Sequence[Series]) -> Iterator[dict[str, Any]]:
    """Yield the names that series have in all studies of several: `stack`, and `masks` where one says mask.

    A name of a single study may tell of a patient; one of all studies doesn't.
    """
    by_study: dict[str, list[Series]] = defaultdict(list)
    for each in series:
        by_study[each.study].append(each)
    studies = [study for study in by_study.values() if len(study) > 1]
    if len(studies) < 2:
        return
    counts = [Counter(name for each in study for name in set(each.names)) for study in studies]
    shared = {name for name in counts[0] if all(count[name] == 1 for count in counts)}
    called = [next((name for name in reversed(each.names) if name in shared), None) for each in studies[0]]
    masks = [name for name in called if name and role(name) == "mask"]
    stack = sorted(name for name in called if name and name not in masks)
    if len(stack) > 1 or masks:
        drawn = {"masks": literal(masks[0])} if masks else {}
        alone = all(len(study) == 2 for study in studies) and masks  # an image and its mask
        yield {**({} if alone else {"stack": [literal(name) for name in stack]}), **drawn}
