"""Volumes in files: NIfTI, DICOM series, DICOM SEG, MHA, NRRD and TIFF, of an array DHW in the LPS frame."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations

SPACING_MM = (3.0, 1.5, 0.75)
ORIGIN_MM = (-20.0, 12.5, 100.0)  # LPS of the first voxel


def numbered_volume(size_DHW: tuple[int, int, int] = (5, 6, 7), dtype: str = "int16") -> np.ndarray:
    """An array DHW of which no turn or flip equals another."""
    return np.arange(np.prod(size_DHW)).reshape(size_DHW).astype(dtype)


def lps_affine(spacing_mm: Sequence[float] = SPACING_MM, origin_mm: Sequence[float] = ORIGIN_MM) -> np.ndarray:
    """The affine of an index (w, h, d) to mm in LPS."""
    depth_mm, height_mm, width_mm = spacing_mm
    affine = np.diag([width_mm, height_mm, depth_mm, 1.0])
    affine[:3, 3] = origin_mm
    return affine


def nifti(
    array_DHW: np.ndarray,
    orientation: str = "LPS",
    *,
    spacing_mm: Sequence[float] = SPACING_MM,
    origin_mm: Sequence[float] = ORIGIN_MM,
    slope: float | None = None,
    intercept: float = 0.0,
) -> bytes:
    """A NIfTI file whose axes are stored in an orientation such as RAS; a fourth axis of the array comes last."""
    array_WHD = np.moveaxis(array_DHW, (0, 1, 2), (2, 1, 0))
    ras = np.diag([-1.0, -1, 1, 1]) @ lps_affine(spacing_mm, origin_mm)
    turn = orientations.ornt_transform(orientations.axcodes2ornt("LPS"), orientations.axcodes2ornt(orientation))
    stored = orientations.apply_orientation(array_WHD, turn)
    image = nib.Nifti1Image(stored, ras @ orientations.inv_ornt_aff(turn, array_WHD.shape[:3]))
    image.header.set_xyzt_units("mm")
    content = bytearray(image.to_bytes())
    if slope is not None:
        content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    return bytes(content)


def dicom_slices(
    array_DHW: np.ndarray,
    *,
    spacing_mm: Sequence[float] = SPACING_MM,
    origin_mm: Sequence[float] = ORIGIN_MM,
    slope: float = 1.0,
    intercept: float = 0.0,
    patient: str = "Jane^Doe",
    series: str = "1.2.3.4",
    **tags: Any,
) -> list[Any]:
    """The slices of a CT series as pydicom's datasets, lowest first; `tags` are set on each."""
    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    slices = []
    for number, array_HW in enumerate(array_DHW):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"{series}.{number + 1}"
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series, f"{series}.0"
        dataset.FrameOfReferenceUID = f"{series}.9"
        dataset.PatientID, dataset.PatientName, dataset.Modality = patient, patient, "CT"
        dataset.PatientBirthDate = dataset.PatientSex = dataset.AccessionNumber = ""
        dataset.StudyID = dataset.StudyDate = dataset.StudyTime = dataset.ReferringPhysicianName = ""
        dataset.Rows, dataset.Columns = array_HW.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, int(array_HW.dtype.kind == "i")
        dataset.PixelSpacing = [spacing_mm[1], spacing_mm[2]]
        dataset.SliceThickness = spacing_mm[0]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [origin_mm[0], origin_mm[1], origin_mm[2] + number * spacing_mm[0]]
        dataset.InstanceNumber = len(array_DHW) - number  # that isn't what they are sorted by
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.PixelData = array_HW.tobytes()
        for tag, value in tags.items():
            setattr(dataset, tag, value)
        slices.append(dataset)
    return slices


def dicom_file(dataset: Any) -> bytes:
    """A dataset as the bytes of a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dicom_files(slices: Sequence[Any]) -> list[tuple[str, bytes]]:
    """Files by the name of their slice, out of order."""
    named = [(f"slice{number}.dcm", dicom_file(dataset)) for number, dataset in enumerate(slices)]
    return [*named[1::2], *named[::2]]


def seg_file(slices: Sequence[Any], mask_DHW: np.ndarray, labels: Sequence[str]) -> bytes:
    """A DICOM SEG by highdicom: values 1, 2, .. of the mask are segments with these labels."""
    from highdicom.content import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    algorithm = AlgorithmIdentificationSequence(name="test", version="1", family=codes.DCM.ArtificialIntelligence)
    described = [
        SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, label in enumerate(labels, start=1)
    ]
    seg = Segmentation(
        source_images=list(slices),
        pixel_array=mask_DHW.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )
    return dicom_file(seg)


def rtstruct_file(slices: Sequence[Any], contours: dict[str, list[np.ndarray]]) -> bytes:
    """An RTSTRUCT: closed contours, N x 3 mm in LPS, by the name of their structure."""
    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

    def item(**tags: Any) -> Any:
        dataset = Dataset()
        for tag, value in tags.items():
            setattr(dataset, tag, value)
        return dataset

    series = item(SeriesInstanceUID=slices[0].SeriesInstanceUID)
    study = item(RTReferencedSeriesSequence=[series])
    dataset = item(
        SOPClassUID=RTStructureSetStorage,
        SOPInstanceUID="1.2.3.9",
        SeriesInstanceUID="1.2.3.8",
        Modality="RTSTRUCT",
        ReferencedFrameOfReferenceSequence=[item(RTReferencedStudySequence=[study])],
        StructureSetROISequence=[item(ROINumber=number, ROIName=name) for number, name in enumerate(contours, start=1)],
        ROIContourSequence=[
            item(
                ReferencedROINumber=number,
                ContourSequence=[
                    item(ContourGeometricType="CLOSED_PLANAR", ContourData=points.ravel().tolist()) for points in every
                ],
            )
            for number, every in enumerate(contours.values(), start=1)
        ],
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dicom_file(dataset)


def write_itk(array_DHW: np.ndarray, path: Path, direction: Sequence[float] = (1, 1, 1)) -> None:
    """Write a file by SimpleITK, its axes flipped where the direction is -1; of .mhd and .nhdr the data beside it."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array_DHW)
    image.SetSpacing([float(value) for value in SPACING_MM[::-1]])
    image.SetOrigin(ORIGIN_MM)
    image.SetDirection(np.diag(direction).astype(float).ravel().tolist())
    SimpleITK.WriteImage(image, str(path))


def itk_file(array_DHW: np.ndarray, folder: Path, suffix: str, direction: Sequence[float] = (1, 1, 1)) -> bytes:
    """A file that SimpleITK writes, as `write_itk` does."""
    path = folder / f"volume{suffix}"
    write_itk(array_DHW, path, direction)
    return path.read_bytes()


def write(path: Path, content: bytes) -> Path:
    """Write a file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
