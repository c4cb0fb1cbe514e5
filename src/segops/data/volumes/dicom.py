"""Reads the slices of a DICOM series, or the frames of an enhanced image, as a volume, by pydicom and its plugins.

Slices are sorted by position, whatever their names and numbers say, and rescaled to the modality's values, such as HU.

Axes: D depth (slices), H height (rows), W width (columns), C channels.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.data.volumes.dicom_positions import SlicePosition, affine_of, checked_order
from segops.data.volumes.grid import Volume, oriented
from segops.data.volumes.samples import scaled
from segops.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

Array = npt.NDArray[Any]

BURNED_IN = "DICOM that says that names may be burned into its pixels (tag 0028,0301): look at them, and mask them"
_INVERTED = "DICOM in which low values are bright (MONOCHROME1): values kept as stored"


_UNIT = 1e-3  # how far a direction's length may lie off 1: headers are rounded


class _Slice(NamedTuple):
    position: SlicePosition
    array_HW: Array


def is_dicom(content: bytes) -> bool:
    """Return whether a file begins as DICOM does."""
    return content[128:132] == b"DICM"


def read_header(content: bytes, name: str, *, pixels: bool = False) -> Dataset:
    """Parse a DICOM file, by default without its pixels.

    What a header says of a patient is in no warning and in no error.

    Raises: UserError where it is no DICOM file, or damaged.
    """
    from pydicom import config, dcmread
    from pydicom.errors import InvalidDicomError

    config.settings.reading_validation_mode = config.IGNORE  # else pydicom's warnings quote values, names among them
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    try:
        return dcmread(io.BytesIO(content), stop_before_pixels=not pixels)
    except InvalidDicomError:
        raise UserError(f"{name}: no DICOM file (128 bytes and DICM begin one); copy it again") from None
    except Exception as error:  # the parser raises almost anything on damaged bytes
        raise UserError(f"{name}: damaged or truncated DICOM ({type(error).__name__}); copy it again") from None


def uid_words(uid: object) -> str:
    """Return what a UID stands for, or its figures; other text of a header isn't repeated."""
    from pydicom.uid import UID_dictionary

    text = str(uid)
    if text in UID_dictionary:
        return str(UID_dictionary[text][0])
    return text if re.fullmatch(r"[0-9.]{1,64}", text) else "none"


def decode_series(files: Sequence[tuple[str, bytes]]) -> tuple[Volume, tuple[str, ...]]:
    """Decode the files of a series, in any order: its volume in the modality's values, and what is to be noted.

    Args:
        files: name and content of each.

    Raises: UserError naming the file: of another series, no slice of a volume, a localizer, several volumes, a missing
        or a double slice, slices of several spacings, sizes or orientations, a transfer syntax that can't be decoded.
    """
    slices: list[_Slice] = []
    notes: set[str] = set()
    series = None
    for name, content in files:
        dataset = read_header(content, name, pixels=True)
        _check_kind(dataset, name)
        series = series or dataset.get("SeriesInstanceUID")
        if dataset.get("SeriesInstanceUID") != series:
            raise UserError(f"{name}: of another series than {files[0][0]}; give each series a folder of its own")
        notes |= _notes(dataset)
        slices.extend(_slices(dataset, name))
    order = checked_order([part.position for part in slices])
    array_DHW = np.stack([slices[index].array_HW for index in order])
    affine = affine_of([slices[index].position for index in order])
    return oriented(array_DHW[..., None], affine, files[0][0]), tuple(sorted(notes))


def series_positions(images: Sequence[tuple[Dataset, str]]) -> tuple[list[SlicePosition], list[int], list[int]]:
    """Return where the slices or frames of a series' files lie, the file of each, and their order by position.

    Args:
        images: header and name of each file.
    """
    positions: list[SlicePosition] = []
    owners: list[int] = []
    for number, (image, name) in enumerate(images):
        frames = list(image.get("PerFrameFunctionalGroupsSequence", ()))
        shared = list(image.get("SharedFunctionalGroupsSequence", ()))
        groups = [[frame, *shared] for frame in frames] or [[image]]
        positions += [_position(image, each, name) for each in groups]
        owners += [number] * len(groups)
    return positions, owners, checked_order(positions)


def _check_kind(dataset: Dataset, name: str) -> None:
    """Raise UserError for what is no slice of a volume."""
    what = uid_words(dataset.get("SOPClassUID"))
    if "PixelData" not in dataset and "FloatPixelData" not in dataset:
        raise UserError(f"{name}: DICOM without pixels ({what}); leave it out by ingest.exclude")
    if "LOCALIZER" in [str(part).upper() for part in dataset.get("ImageType", ())]:
        raise UserError(f"{name}: a localizer, not a slice of a volume; leave its series out by ingest.exclude")
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise UserError(f"{name}: DICOM in colours; volumes of one value per voxel are read")
    if "ModalityLUTSequence" in dataset:
        raise UserError(f"{name}: DICOM whose values go through a lookup table (Modality LUT); convert it to NIfTI")


def _notes(dataset: Dataset) -> set[str]:
    """Return what about a file a person should know."""
    burned_in = str(dataset.get("BurnedInAnnotation", "")).upper() == "YES"
    inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    return {note for note, holds in ((BURNED_IN, burned_in), (_INVERTED, inverted)) if holds}


def _slices(dataset: Dataset, name: str) -> Iterator[_Slice]:
    """Yield the slice of a file, or the frames of an enhanced image."""
    stored = _pixels(dataset, name)
    if stored.ndim == 2:
        yield _Slice(_position(dataset, [dataset], name), _values(stored, dataset, [dataset], name))
        return
    shared = list(dataset.get("SharedFunctionalGroupsSequence", ()))
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence", ()))
    if len(frames) != len(stored):
        raise UserError(f"{name}: {len(stored)} frames without positions, such as a film; save a volume as slices")
    for number, (frame, array_HW) in enumerate(zip(frames, stored, strict=True), start=1):
        groups = [frame, *shared]
        where = f"{name}: frame {number}"
        yield _Slice(_position(dataset, groups, where), _values(array_HW, dataset, groups, where))


def _position(dataset: Dataset, groups: list[Dataset], name: str) -> SlicePosition:
    """Return where a slice lies. Raises UserError where the file doesn't say it."""
    corner = _value(groups, "PlanePositionSequence", "ImagePositionPatient")
    axes = _value(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = _value(groups, "PixelMeasuresSequence", "PixelSpacing")
    if corner is None or axes is None or spacing is None:
        raise UserError(
            f"{name}: DICOM that doesn't say where its slice lies (ImagePositionPatient, ImageOrientationPatient, "
            "PixelSpacing), so it is no part of a volume; save it as a picture"
        )
    corner_mm, directions, spacing_mm = (np.array(value, np.float64) for value in (corner, axes, spacing))
    if [corner_mm.shape, directions.shape, spacing_mm.shape] != [(3,), (6,), (2,)] or (spacing_mm <= 0).any():
        raise UserError(f"{name}: a position, an orientation or a PixelSpacing that can't be one; correct the file")
    if np.abs(np.linalg.norm(directions.reshape(2, 3), axis=1) - 1).max() > _UNIT:
        raise UserError(f"{name}: its ImageOrientationPatient holds no directions (of length 1); correct the file")
    return SlicePosition(name, corner_mm, directions, spacing_mm, (int(dataset.Rows), int(dataset.Columns)))


def _value(groups: list[Dataset], sequence: str, tag: str) -> Any:
    """Return a tag's value from functional groups, or of a single slice from the file itself."""
    for group in groups:
        for holder in (group, *group.get(sequence, ())):
            if tag in holder:
                return holder[tag].value
    return None


def _values(stored_HW: Array, dataset: Dataset, groups: list[Dataset], name: str) -> Array:
    """Return a slice's values after the rescale to the modality's. Raises UserError for a slope of 0."""
    slope = _value(groups, "PixelValueTransformationSequence", "RescaleSlope")
    intercept = _value(groups, "PixelValueTransformationSequence", "RescaleIntercept")
    if slope is not None and float(slope) == 0:
        raise UserError(f"{name}: a RescaleSlope of 0, which leaves no values; correct the file")
    bits = int(dataset.get("BitsStored", 8 * stored_HW.dtype.itemsize))
    return scaled(stored_HW, 1.0 if slope is None else float(slope), float(intercept or 0), bits=bits)


def _pixels(dataset: Dataset, name: str) -> Array:
    """Decode a file's pixels, HW or frames of it. Raises UserError for a transfer syntax that no plugin decodes."""
    from pydicom.uid import UID_dictionary

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or str(syntax) not in UID_dictionary:
        what = f"an unknown transfer syntax ({uid_words(syntax)})"
        raise UserError(f"{name}: {what}; save it as Explicit VR Little Endian")
    try:
        return np.asarray(dataset.pixel_array)
    except Exception as error:  # plugins raise almost anything
        if not syntax.is_compressed:
            raise UserError(f"{name}: damaged or truncated pixels ({type(error).__name__}); copy it again") from None
        raise UserError(
            f"{name}: its pixels, stored as {syntax.name}, can't be decoded ({type(error).__name__}); save it as "
            "Explicit VR Little Endian, or install what decodes it: pip install 'segops[volumes]'"
        ) from None
