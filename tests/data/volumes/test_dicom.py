"""DICOM series become volumes, whatever their files are called; what is no volume is a line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segops.data.read_changes import ChangeLog
from segops.data.volumes.dicom import BURNED_IN, decode_series, is_dicom
from segops.data.volumes.grid import Grid
from segops.data.volumes.read import MaskFiles, read_volume
from segops.errors import UserError
from segops.params.file_rules import FileRules
from tests.support.volume_files import (
    ORIGIN_MM,
    SPACING_MM,
    dicom_file,
    dicom_files,
    dicom_slices,
    nifti,
    numbered_volume,
    rtstruct_file,
    seg_file,
)

VOLUME_DHW = numbered_volume((6, 5, 7))


def series_of(slices: Sequence[Any], changes: ChangeLog | None = None) -> tuple[np.ndarray, Grid]:
    files = dict(dicom_files(slices))
    return read_volume(files.__getitem__, [tuple(files)], changes or ChangeLog(), FileRules())


def complaint(slices: Sequence[Any]) -> str:
    with pytest.raises(UserError) as error:
        series_of(slices)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_slices_are_sorted_by_position_and_rescaled() -> None:
    image_DHWC, grid = series_of(dicom_slices(VOLUME_DHW, slope=2, intercept=-1024))
    assert image_DHWC.dtype == np.float32  # 16 bits times 2 don't fit int16
    np.testing.assert_array_equal(image_DHWC[..., 0], 2.0 * VOLUME_DHW - 1024)
    assert grid.spacing_mm == SPACING_MM
    assert grid.affine is not None
    np.testing.assert_allclose(grid.affine[:3, 3], ORIGIN_MM)


def test_twelve_bits_of_hounsfield_units_stay_int16() -> None:
    stored_DHW = VOLUME_DHW.astype(np.uint16)
    image_DHWC, _ = series_of(dicom_slices(stored_DHW, intercept=-1024, BitsStored=12, HighBit=11))
    assert image_DHWC.dtype == np.int16
    np.testing.assert_array_equal(image_DHWC[..., 0], VOLUME_DHW - 1024)


def test_a_coronal_series_and_a_nifti_of_the_same_patient_give_one_volume() -> None:
    coronal = np.ascontiguousarray(VOLUME_DHW.transpose(1, 0, 2)[:, ::-1])  # rows run to the feet
    slices = dicom_slices(coronal, spacing_mm=(1.5, 3.0, 0.75))
    for number, dataset in enumerate(slices):
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [ORIGIN_MM[0], ORIGIN_MM[1] + 1.5 * number, ORIGIN_MM[2] + 15]
    image_DHWC, grid = series_of(slices)
    files = {"a.nii": nifti(VOLUME_DHW, "RAS")}
    expected_DHWC, expected = read_volume(files.__getitem__, [("a.nii",)], ChangeLog(), FileRules())
    np.testing.assert_array_equal(image_DHWC, expected_DHWC)
    assert grid.affine is not None
    assert expected.affine is not None
    np.testing.assert_allclose(grid.affine, expected.affine, atol=1e-5)


def shifted(number: int, mm: float) -> Callable[[list[Any]], None]:
    def change(slices: list[Any]) -> None:
        x, y, z = slices[number].ImagePositionPatient
        slices[number].ImagePositionPatient = [x, y, z + mm]

    return change


def tagged(number: int, **tags: Any) -> Callable[[list[Any]], None]:
    def change(slices: list[Any]) -> None:
        for dataset in slices if number < 0 else [slices[number]]:
            for tag, value in tags.items():
                setattr(dataset, tag, value)

    return change


def tilted(slices: list[Any]) -> None:
    for number, dataset in enumerate(slices):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y + number, z]


def twice(slices: list[Any]) -> None:
    slices.extend(dicom_slices(VOLUME_DHW))


def without(tag: str) -> Callable[[list[Any]], None]:
    def change(slices: list[Any]) -> None:
        for dataset in slices:
            delattr(dataset, tag)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda slices: slices.pop(2), "slice2.dcm: a slice is missing between it and slice1.dcm"),
        (lambda slices: [slices.pop(2), slices.pop(2)], "slice2.dcm: 2 slices are missing between it and slice1.dcm"),
        (lambda slices: slices.append(slices[3]), "a double slice: it lies where slice3.dcm does"),
        (twice, "4D: 2 volumes of 6 slices in one series"),
        (shifted(3, 0.6), "slice3.dcm: mixed spacing: 3.6 mm above slice2.dcm, other slices lie 3 mm apart"),
        (tagged(2, PixelSpacing=[1.5, 1]), "mixed spacing: pixels of 1.5 x 1 mm, but"),
        (tagged(2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "lies in another plane than"),
        (tagged(2, SeriesInstanceUID="9.9"), "of another series than"),
        (tagged(-1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "a localizer, not a slice of a volume"),
        (tilted, "its axes aren't at right angles (a tilted gantry"),
        (without("ImagePositionPatient"), "doesn't say where its slice lies"),
        (without("PixelData"), "DICOM without pixels (CT Image Storage)"),
        (tagged(-1, SamplesPerPixel=3), "DICOM in colours"),
        (lambda slices: [slices.pop() for _ in range(5)], "a series of one slice, no volume"),
        (tagged(-1, ImageOrientationPatient=[2, 0, 0, 0, 2, 0]), "holds no directions (of length 1)"),
        (tagged(-1, ImageOrientationPatient=[0] * 6), "holds no directions (of length 1)"),
        (tagged(-1, ImagePositionPatient=[1, 2]), "a position, an orientation or a PixelSpacing that can't be one"),
        (tagged(-1, PixelSpacing=[-1.5, 0.75]), "a PixelSpacing that can't be one"),
        (tagged(-1, PixelSpacing=[0.75]), "a PixelSpacing that can't be one"),
        (tagged(-1, RescaleSlope=0), "a RescaleSlope of 0, which leaves no values"),
        (tagged(2, PixelData=bytes(60)), "slice2.dcm: damaged or truncated pixels (ValueError); copy it again"),
    ],
)
def test_what_is_no_evenly_spaced_volume_is_a_line(change: Callable[[list[Any]], None], message: str) -> None:
    slices = dicom_slices(VOLUME_DHW)
    change(slices)
    assert message in complaint(slices)


def test_what_scanners_write_in_other_ways_is_read_as_it_is_meant() -> None:
    turned = dicom_slices(VOLUME_DHW)
    for number, dataset in enumerate(turned):  # from the head down, spacing rounded otherwise, a slope a slice
        dataset.ImagePositionPatient = [*ORIGIN_MM[:2], ORIGIN_MM[2] - 3 * number]
        dataset.PixelSpacing = [1.5 + 0.0004 * (number % 2), 0.75]
        dataset.RescaleSlope = -0.5 * (number + 1)
    image_DHWC, grid = series_of(turned)
    slopes_D = -0.5 * np.arange(1, len(VOLUME_DHW) + 1)
    np.testing.assert_array_equal(image_DHWC[..., 0], (VOLUME_DHW * slopes_D[:, None, None])[::-1])
    assert grid.spacing_mm == pytest.approx(SPACING_MM, abs=1e-3)


def test_an_oblique_series_lies_where_a_nifti_of_it_lies() -> None:
    angle = np.deg2rad(20)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    slices = dicom_slices(VOLUME_DHW)
    for number, dataset in enumerate(slices):
        dataset.ImageOrientationPatient = [round(float(value), 6) for value in rotation[:, :2].T.ravel()]
        dataset.ImagePositionPatient = [round(float(value), 4) for value in ORIGIN_MM + 3 * number * rotation[:, 2]]
    image_DHWC, grid = series_of(slices)
    np.testing.assert_array_equal(image_DHWC[..., 0], VOLUME_DHW)
    expected = np.column_stack([rotation[:, ::-1] * SPACING_MM, ORIGIN_MM])  # of (d, h, w) and 1
    assert grid.affine is not None
    np.testing.assert_allclose(grid.affine[:3], expected, atol=1e-4)


def test_sizes_that_differ_name_the_file() -> None:
    slices = [*dicom_slices(VOLUME_DHW)[:3], *dicom_slices(VOLUME_DHW[:, :4])[3:]]
    assert "4x7 pixels, but" in complaint(slices) or "5x7 pixels, but" in complaint(slices)


@pytest.mark.parametrize(
    ("syntax", "message"),
    [
        ("1.2.3.4.5.6", "an unknown transfer syntax (1.2.3.4.5.6)"),
        ("1.2.840.10008.1.2.4.102", "stored as MPEG-4 AVC/H.264 High Profile / Level 4.1, can't be decoded"),
    ],
)
def test_a_transfer_syntax_that_nobody_decodes_is_named(syntax: str, message: str) -> None:
    content = dicom_file(dicom_slices(VOLUME_DHW)[0])
    begin = content.index(b"1.2.840.10008.1.2.1\0")
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    head = content[: begin - 2] + len(value).to_bytes(2, "little") + value
    length_at = head.index(b"\x02\0\0\0UL\x04\0") + 8  # of the group that the syntax is in
    length = int.from_bytes(head[length_at : length_at + 4], "little") + len(value) - 20
    changed = head[:length_at] + length.to_bytes(4, "little") + head[length_at + 4 :] + content[begin + 20 :]
    with pytest.raises(UserError) as error:
        read_volume({"a.dcm": changed}.__getitem__, [("a.dcm",)], ChangeLog(), FileRules())
    assert message in str(error.value)


@pytest.mark.parametrize("syntax", ["JPEGLSLossless", "RLELossless", "DeflatedExplicitVRLittleEndian"])
def test_compressed_slices_decode_equal(syntax: str) -> None:
    import pydicom.uid

    slices = dicom_slices(VOLUME_DHW.astype(np.uint16))
    for dataset in slices:
        uid = getattr(pydicom.uid, syntax)
        if uid.is_compressed and syntax != "DeflatedExplicitVRLittleEndian":
            dataset.compress(uid, generate_instance_uid=False)
        else:
            dataset.file_meta.TransferSyntaxUID = uid
    np.testing.assert_array_equal(series_of(slices)[0][..., 0], VOLUME_DHW)


@pytest.mark.parametrize(
    "name", ["MR_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_bigendian"]
)
def test_one_slice_of_pydicom_s_own_files_is_read_and_called_no_volume(name: str) -> None:
    from pydicom.data import get_testdata_file

    path = get_testdata_file(f"{name}.dcm")
    assert path is not None
    content = Path(str(path)).read_bytes()
    with pytest.raises(UserError, match="a series of one slice, no volume"):
        read_volume({"a.dcm": content}.__getitem__, [("a.dcm",)], ChangeLog(), FileRules())


def test_names_that_may_be_burned_in_are_told() -> None:
    changes = ChangeLog()
    series_of(dicom_slices(VOLUME_DHW, BurnedInAnnotation="YES"), changes)
    assert [entry.change for entry in changes.entries()] == [BURNED_IN]


def segments(mask_DHW: np.ndarray, labels: Sequence[str], keep: slice = slice(None)) -> dict[str, np.ndarray]:
    """The segments that are read on the whole series from a SEG of some of its slices."""
    slices = dicom_slices(VOLUME_DHW)
    _, grid = series_of(slices)
    content = seg_file(slices[keep], mask_DHW[keep], labels)
    files = MaskFiles({"s.dcm": content}.__getitem__, grid, "slice0.dcm", ChangeLog(), FileRules(), 0.0)
    return {segment.label: segment.inside_DHW for segment in files.segments("s.dcm")}


def test_a_seg_by_highdicom_reads_back_equal() -> None:
    mask_DHW = VOLUME_DHW % 4 % 3
    found = segments(mask_DHW, ["liver", "kidney"])
    np.testing.assert_array_equal(found["liver"], mask_DHW == 1)
    np.testing.assert_array_equal(found["kidney"], mask_DHW == 2)


def test_a_seg_of_some_slices_lies_where_they_lie() -> None:
    mask_DHW = np.zeros_like(VOLUME_DHW)
    mask_DHW[3:5, 1:3, 2:6] = 1
    np.testing.assert_array_equal(segments(mask_DHW, ["liver"], slice(2, 6))["liver"], mask_DHW == 1)


def test_a_seg_of_another_grid_is_refused() -> None:
    slices = dicom_slices(VOLUME_DHW)
    content = seg_file(slices, VOLUME_DHW % 2, ["liver"])
    _, grid = series_of(dicom_slices(VOLUME_DHW, origin_mm=[value + 0.3 for value in ORIGIN_MM]))
    files = MaskFiles({"s.dcm": content}.__getitem__, grid, "a.dcm", ChangeLog(), FileRules(), 0.0)
    with pytest.raises(UserError, match=r"^s\.dcm: its frames don't lie on the voxels of a\.dcm"):
        list(files.segments("s.dcm"))


def test_what_is_no_seg_is_called_by_its_name() -> None:
    content = dicom_file(dicom_slices(VOLUME_DHW)[0])
    _, grid = series_of(dicom_slices(VOLUME_DHW))
    files = MaskFiles({"s.dcm": content}.__getitem__, grid, "a.dcm", ChangeLog(), FileRules(), 0.0)
    with pytest.raises(UserError, match=r"^s\.dcm: neither DICOM SEG nor RTSTRUCT \(CT Image Storage\)"):
        list(files.segments("s.dcm"))


def square(plane: int, begin: float, end: float) -> np.ndarray:
    """The corners of a square in a slice, mm, its sides between voxels' centres from row and column begin to end."""
    corners = np.array([(begin, begin), (begin, end), (end, end), (end, begin)])
    x, y, z = ORIGIN_MM
    depth_mm, height_mm, width_mm = SPACING_MM
    return np.array([(x + w * width_mm, y + h * height_mm, z + plane * depth_mm) for h, w in corners])


def structures(contours: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """The structures of an RTSTRUCT, read on its series."""
    slices = dicom_slices(VOLUME_DHW)
    _, grid = series_of(slices)
    content = {"r.dcm": rtstruct_file(slices, contours)}
    files = MaskFiles(content.__getitem__, grid, "slice0.dcm", ChangeLog(), FileRules(), 0.0)
    return {segment.label: segment.inside_DHW for segment in files.segments("r.dcm")}


def test_contours_of_an_rtstruct_are_filled_and_a_contour_within_another_is_a_hole() -> None:
    found = structures({"liver": [square(2, 0.5, 3.5), square(2, 1.5, 2.5), square(4, 0.5, 2.5)], "empty": []})
    expected_DHW = np.zeros(VOLUME_DHW.shape, bool)
    expected_DHW[2, 1:4, 1:4] = True
    expected_DHW[2, 2, 2] = False
    expected_DHW[4, 1:3, 1:3] = True
    assert list(found) == ["liver"]
    np.testing.assert_array_equal(found["liver"], expected_DHW)


@pytest.mark.parametrize(
    ("contour", "message"),
    [
        (square(2, 0.5, 3.5) + np.array([0, 0, 1]), "doesn't lie in a slice of"),
        (square(9, 0.5, 3.5), "reaches out of"),
        (square(2, 0.5, 9), "reaches out of"),
    ],
)
def test_contours_that_lie_elsewhere_are_refused(contour: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=rf"^r\.dcm: structure 'liver': a contour that {message}"):
        structures({"liver": [contour]})


@pytest.mark.filterwarnings("error")
def test_a_damaged_header_s_text_is_in_no_warning_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    content = dicom_file(dicom_slices(VOLUME_DHW, patient="Jane^Doe")[0])
    damages = (
        (b"DS\x04\x003.0 ", b"DS\x04\x00Jane"),
        (b"US\x02\x00\x05\x00", b"US\x02\x00Ja"),
        (b"1.2.840", b"Jane^Do"),
    )
    for old, new in damages:
        with pytest.raises(UserError) as error:
            read_volume({"a": content.replace(old, new)}.__getitem__, [("a",)], ChangeLog(), FileRules())
        assert "Jane" not in str(error.value)
    assert "Jane" not in caplog.text


def test_pydicom_s_own_series_read_as_pydicom_reads_them_or_are_a_line() -> None:
    """Files of real scanners, which the package brings for its own tests."""
    import pydicom

    folder = Path(pydicom.__file__).parent / "data/test_files/dicomdirtests"
    series: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and is_dicom(path.read_bytes()):
            header = pydicom.dcmread(path, stop_before_pixels=True)
            if "Rows" in header:
                series[header.SeriesInstanceUID].append(path)
    read = 0
    for paths in series.values():
        files = [(str(path.relative_to(folder)), path.read_bytes()) for path in paths]
        try:
            volume, _ = decode_series(files)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 - some are volumes, most are not
            continue
        read += 1
        slices = sorted(map(pydicom.dcmread, paths), key=lambda slice_: slice_.ImagePositionPatient[2])
        assert list(slices[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
        expected_DHW = [slice_.pixel_array * slice_.RescaleSlope + slice_.RescaleIntercept for slice_ in slices]
        np.testing.assert_array_equal(volume.array_DHWC[..., 0], expected_DHW)
        heights_mm = [float(slice_.ImagePositionPatient[2]) for slice_ in slices]
        expected_mm = (heights_mm[1] - heights_mm[0], *map(float, slices[0].PixelSpacing))
        assert volume.grid.spacing_mm == pytest.approx(expected_mm, abs=1e-6)
    assert read >= 1
