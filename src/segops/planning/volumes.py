"""Proposes layouts of volumes: the Decathlon's list, DICOM series, or any layout whose files are volumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from segops.data.decoders.kinds import VOLUME_SUFFIXES, image_suffix
from segops.data.layouts.pairing import Members
from segops.data.volumes.contours import RTSTRUCT_CLASS
from segops.data.volumes.dicom import is_dicom, read_header
from segops.data.volumes.segments import SEG_CLASSES
from segops.errors import UserError
from segops.files import parse_json
from segops.params.file_rules import Dimensions

_LOOKED_AT = 20  # files without a known suffix, evenly spread, that may be DICOM


class VolumeProposals(NamedTuple):
    """What a source's files are, and layouts that volumes alone have, as params with the reason."""

    dimensions: Dimensions
    proposals: list[tuple[dict[str, Any], str]]


def volume_proposals(source: Members, files: Sequence[str]) -> VolumeProposals:
    """Say whether most of a source's image files are volumes, and propose the layouts of such.

    Args:
        files: the images among the source's members.
    """
    volumes = [name for name in files if image_suffix(name) in VOLUME_SUFFIXES]
    dicom = [name for name in volumes if VOLUME_SUFFIXES[image_suffix(name)] == "DICOM"]
    proposals = [*_decathlon(source), *(_dicom(source) if dicom or not files else ())]
    return VolumeProposals(3 if proposals or 2 * len(volumes) > len(files) else 2, proposals)


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
    """Yield the layout of DICOM series, with the labels of their SEGs as classes."""
    step = -(-len(source.names) // _LOOKED_AT)
    try:
        if not any(is_dicom(source.read(name)) for name in source.names[:: max(1, step)]):
            return
    except UserError:
        return
    labels = sorted({label for name in source.names for label in _segment_labels(source, name)})
    named = {"mask_values": dict(enumerate(["background", *labels]))} if labels else {}
    yield {"layout": "dicom", **named}, "DICOM series, with the SEG that references each or a mask beside it"


def _segment_labels(source: Members, name: str) -> list[str]:
    """Return the labels of a file's segments; none of another file."""
    content = source.read(name)
    if not is_dicom(content):
        return []
    try:
        header = read_header(content, name)
    except UserError:
        return []
    if header.get("SOPClassUID") == RTSTRUCT_CLASS:
        return [str(structure.ROIName) for structure in header.get("StructureSetROISequence", ())]
    if header.get("SOPClassUID") not in SEG_CLASSES:
        return []
    return [str(segment.SegmentLabel) for segment in header.get("SegmentSequence", ())]
