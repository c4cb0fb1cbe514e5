"""Writes masks of volumes where their sources lie: as NIfTI on the source's own axes, or as DICOM SEG of its series.

Axes: D depth, H height, W width.
"""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.data.volumes.dicom import read_header, series_positions
from segops.data.volumes.dicom_positions import affine_of
from segops.data.volumes.extras import extra
from segops.data.volumes.grid import Grid
from segops.data.volumes.nifti import RAS_TO_LPS, open_nifti

if TYPE_CHECKING:
    from pydicom import Dataset

Array = npt.NDArray[Any]


class Algorithm(NamedTuple):
    """What made a mask, as a DICOM SEG names it.

    Attributes:
        identity: names it for good; equal masks of a series by one algorithm get equal UIDs.
    """

    name: str
    version: str
    identity: str


def nifti_mask(mask_DHW: Array, grid: Grid, source: bytes | None) -> bytes:
    """Encode a mask as .nii.gz; equal input gives equal bytes.

    Args:
        mask_DHW: uint8 or uint16.
        grid: of its volume.
        source: the volume's NIfTI file, unpacked, whose axes, affine and units the mask gets; None: it is of another
            kind, and the mask is stored as `contracts.volumes` has it.
    """
    import nibabel as nib

    if source is not None:
        like = open_nifti(source)
        stored = stored_as(mask_DHW, RAS_TO_LPS @ like.affine)
        image = nib.Nifti1Image(stored, like.affine)
        for form in ("sform", "qform"):
            affine, code = getattr(like.header, f"get_{form}")(coded=True)
            getattr(image, f"set_{form}")(affine, int(code))
        image.header.set_xyzt_units(like.header.get_xyzt_units()[0])
    else:
        affine_WHD = np.eye(4) if grid.affine is None else grid.affine[:, [2, 1, 0, 3]]
        image = nib.Nifti1Image(mask_DHW.transpose(2, 1, 0), RAS_TO_LPS @ affine_WHD)
        image.header.set_xyzt_units("unknown" if grid.affine is None else "mm")
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def stored_as(array_DHW: Array, affine: npt.NDArray[np.float64]) -> Array:
    """Turn an array back to the axes that a file with this affine, to mm in LPS, stores: the inverse of `oriented`."""
    from nibabel import orientations

    canonical = np.array([[0, 1], [1, 1], [2, 1]])
    back = orientations.ornt_transform(canonical, orientations.io_orientation(affine))
    return np.ascontiguousarray(orientations.apply_orientation(array_DHW.transpose(2, 1, 0), back))


def seg_mask(mask_DHW: Array, files: Sequence[tuple[str, bytes]], labels: Sequence[str], algorithm: Algorithm) -> bytes:
    """Encode a mask as a DICOM SEG that references the series of its volume.

    Args:
        mask_DHW: uint8, 0 background and a number for each label.
        files: name and content of the series' files, in any order.
        labels: of the segments, from 1 on.
    """
    from pydicom.uid import generate_uid

    segmentation = extra("highdicom.seg", "DICOM SEG")
    images = [read_header(content, name) for name, content in files]
    positions, owners, order = series_positions([(image, name) for image, (name, _) in zip(images, files, strict=True)])
    frames = stored_as(mask_DHW, affine_of([positions[index] for index in order]))
    if len(images) == 1:  # frames of an enhanced image, in the order of the file
        frames = frames[np.argsort(order)]
        sources: list[Dataset] = images
    else:
        sources = [images[owners[index]] for index in order]
    entropy = [algorithm.identity, str(images[0].SeriesInstanceUID)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # highdicom's quote the patient's name
        seg = segmentation.Segmentation(
            source_images=sources,
            pixel_array=frames.astype(np.uint8),
            segmentation_type="BINARY",
            segment_descriptions=_descriptions(labels, algorithm),
            series_instance_uid=generate_uid(entropy_srcs=[*entropy, "series"]),
            series_number=int(images[0].get("SeriesNumber") or 0) + 1000,
            sop_instance_uid=generate_uid(entropy_srcs=[*entropy, "instance"]),
            instance_number=1,
            manufacturer="SegOps",
            manufacturer_model_name=algorithm.name[:64],
            software_versions=algorithm.version[:64],
            device_serial_number="0",
            omit_empty_frames=bool(frames.any()),
        )
    buffer = io.BytesIO()
    seg.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _descriptions(labels: Sequence[str], algorithm: Algorithm) -> list[Any]:
    """Describe the segments: their labels are the classes' names, their codes say no more than that they are tissue."""
    from pydicom.sr.codedict import codes

    content, segmentation = extra("highdicom.content", "DICOM SEG"), extra("highdicom.seg", "DICOM SEG")
    identification = content.AlgorithmIdentificationSequence(
        name=algorithm.name, version=algorithm.version, family=codes.DCM.ArtificialIntelligence
    )
    return [
        segmentation.SegmentDescription(
            segment_number=number,
            segment_label=label[:64],
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type="AUTOMATIC",
            algorithm_identification=identification,
        )
        for number, label in enumerate(labels, start=1)
    ]
