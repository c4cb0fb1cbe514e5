"""Every kind of file gives the same volume, in one orientation."""

from __future__ import annotations

import gzip
import io
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat

from segops.data.read_changes import ChangeLog
from segops.data.volumes.grid import Grid
from segops.data.volumes.read import MaskFiles, read_volume
from segops.errors import UserError
from segops.params.file_rules import FileRules
from tests.support.volume_files import (
    ORIGIN_MM,
    SPACING_MM,
    dicom_file,
    dicom_slices,
    itk_file,
    nifti,
    numbered_volume,
    write_itk,
)

ORDERS = itertools.permutations(("RL", "AP", "SI"))
ORIENTATIONS = ["".join(turn) for order in ORDERS for turn in itertools.product(*order)]


def image_of(files: Mapping[str, bytes], **rules: Any) -> tuple[np.ndarray, Grid]:
    return read_volume(files.__getitem__, [(name,) for name in files], ChangeLog(), FileRules(**rules))


def complaint(content: bytes, name: str = "a.nii.gz", **rules: Any) -> str:
    with pytest.raises(UserError) as error:
        image_of({name: content}, **rules)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_all_48_orientations_give_one_array_and_one_affine(orientation: str) -> None:
    volume_DHW = numbered_volume()
    image_DHWC, grid = image_of({"a.nii": nifti(volume_DHW, orientation)})
    np.testing.assert_array_equal(image_DHWC[..., 0], volume_DHW)
    assert grid.spacing_mm == SPACING_MM
    assert grid.affine is not None
    np.testing.assert_allclose(grid.affine[:3, 3], ORIGIN_MM)
    np.testing.assert_allclose(grid.affine[:3, :3] @ [1, 0, 0], [0, 0, 3.0])  # D runs to the superior


@given(st.tuples(*[st.floats(-0.3, 0.3)] * 3))
def test_an_oblique_volume_keeps_its_voxels_and_its_spacing(angles: tuple[float, float, float]) -> None:
    volume_DHW = numbered_volume()
    image = nib.Nifti1Image.from_bytes(nifti(volume_DHW))
    rotation = from_matvec(euler2mat(*angles))
    turned = nib.Nifti1Image(image.get_fdata(dtype=np.float32), rotation @ image.affine)
    image_DHWC, grid = image_of({"a.nii": turned.to_bytes()})
    assert grid.spacing_mm == pytest.approx(SPACING_MM, abs=1e-4)
    np.testing.assert_array_equal(image_DHWC[..., 0], volume_DHW)


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "kept"),
    [
        ("int16", None, 0, "int16"),
        ("uint8", None, 0, "int16"),
        ("uint8", 4.0, -100, "int16"),
        ("uint16", None, 0, "float32"),
        ("uint16", 1.0, -1024, "float32"),  # 64,511 is beyond int16
        ("int16", 0.5, -10, "float32"),
        ("uint8", -1.0, 5, "int16"),
        ("float32", None, 0, "float32"),
    ],
)
def test_slope_and_intercept_give_the_file_units(dtype: str, slope: float | None, intercept: float, kept: str) -> None:
    volume_DHW = numbered_volume(dtype=dtype)
    image_DHWC, _ = image_of({"a.nii": nifti(volume_DHW, slope=slope, intercept=intercept)})
    assert image_DHWC.dtype == kept
    np.testing.assert_array_equal(image_DHWC[..., 0], volume_DHW.astype(float) * (slope or 1) + intercept)


def test_mha_nrrd_and_gzipped_nifti_read_equal(tmp_path: Path) -> None:
    volume_DHW = numbered_volume()
    flipped_DHW = volume_DHW[:, ::-1, ::-1]
    origin = np.add(ORIGIN_MM, [6 * 0.75, 5 * 1.5, 0])
    files = {
        "a.nii.gz": gzip.compress(nifti(volume_DHW, "RAS")),
        "a.mha": itk_file(volume_DHW, tmp_path, ".mha"),
        "a.nrrd": itk_file(volume_DHW, tmp_path, ".nrrd"),
    }
    for name, content in files.items():
        image_DHWC, grid = image_of({name: content})
        np.testing.assert_array_equal(image_DHWC[..., 0], volume_DHW)
        assert grid.spacing_mm == SPACING_MM
    turned_DHWC, grid = image_of({"b.nrrd": itk_file(flipped_DHW, tmp_path, ".nrrd", (-1, -1, 1))})
    np.testing.assert_array_equal(turned_DHWC[..., 0], volume_DHW)
    assert grid.affine is not None
    np.testing.assert_allclose(np.add(grid.affine[:3, 3], origin), np.multiply(2, ORIGIN_MM), atol=20)


@pytest.mark.parametrize("ome", [True, False])
def test_a_tiff_of_slices_is_a_volume_with_its_spacing(ome: bool) -> None:
    volume_DHW = numbered_volume(dtype="uint16")
    buffer = io.BytesIO()
    if ome:
        size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
        tifffile.imwrite(buffer, volume_DHW, ome=True, metadata={"axes": "ZYX", **size})
    else:
        metadata = {"axes": "ZYX", "unit": "um", "spacing": 2.0}
        tifffile.imwrite(buffer, volume_DHW, imagej=True, resolution=(2, 2), metadata=metadata)
    image_DHWC, grid = image_of({"a.tif": buffer.getvalue()})
    np.testing.assert_array_equal(image_DHWC[..., 0], volume_DHW)
    assert grid.spacing_mm == pytest.approx((0.002, 0.0005, 0.0005))


def test_spacing_that_no_file_says_comes_from_params_and_must_not_contradict_one() -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, numbered_volume(dtype="uint16"), metadata={"axes": "ZYX"})
    assert np.isnan(image_of({"a.tif": buffer.getvalue()})[1].spacing_mm).all()
    assert image_of({"a.tif": buffer.getvalue()}, spacing_mm=(2, 1, 1))[1].spacing_mm == (2, 1, 1)
    said = complaint(nifti(numbered_volume()), spacing_mm=(2, 1, 1))
    assert "its header says 3 x 1.5 x 0.75 mm, but ingest.spacing_mm is 2 x 1 x 1 mm" in said


def test_spacing_from_params_must_not_contradict_what_a_file_says_of_some_axes() -> None:
    buffer = io.BytesIO()
    flat = {f"PhysicalSize{axis}": 500.0 for axis in "XY"}  # micrometres; how far slices are apart isn't said
    tifffile.imwrite(buffer, numbered_volume(dtype="uint16"), ome=True, metadata={"axes": "ZYX", **flat})
    assert np.isnan(image_of({"a.tif": buffer.getvalue()})[1].spacing_mm).all()
    assert image_of({"a.tif": buffer.getvalue()}, spacing_mm=(2, 0.5, 0.5))[1].spacing_mm == (2, 0.5, 0.5)
    with pytest.raises(UserError, match=r"its header says \? x 0\.5 x 0\.5 mm, but ingest.spacing_mm is 2 x 1 x 1 mm"):
        image_of({"a.tif": buffer.getvalue()}, spacing_mm=(2, 1, 1))


def test_slices_of_a_tiff_that_asks_to_be_turned_are_refused() -> None:
    buffer = io.BytesIO()
    turned = [("Orientation", "H", 1, 6, True)]
    tifffile.imwrite(buffer, numbered_volume(dtype="uint16"), metadata={"axes": "ZYX"}, extratags=turned)
    with pytest.raises(UserError, match="orientation tag asks viewers to turn its slices; save them upright"):
        image_of({"a.tif": buffer.getvalue()})


def test_modalities_are_channels_on_one_grid_or_a_line() -> None:
    volume_DHW = numbered_volume()
    files = {"a_t1.nii": nifti(volume_DHW), "a_t2.nii": nifti(volume_DHW + 1, "RAS")}
    image_DHWC, _ = image_of(files)
    np.testing.assert_array_equal(image_DHWC, np.stack([volume_DHW, volume_DHW + 1], axis=-1))
    files["a_t2.nii"] = nifti(volume_DHW, origin_mm=(-20, 12.5, 103))
    with pytest.raises(
        UserError, match=r"^a_t2\.nii: lies up to 3 mm off a_t1\.nii: another grid.*register and resample"
    ):
        image_of(files)


def test_a_fourth_axis_is_a_time_series_unless_params_call_it_channels() -> None:
    volume_DHWC = np.stack([numbered_volume(), numbered_volume() + 1], axis=-1)
    content = nifti(volume_DHWC, "RAS")
    assert complaint(content).startswith("a.nii.gz: 4D, 2 volumes of 7x6x5; a time series isn't read")
    np.testing.assert_array_equal(image_of({"a.nii": content}, fourth_axis="channels")[0], volume_DHWC)


@pytest.mark.parametrize("unit", ["micron", "meter"])
def test_headers_in_other_units_become_mm(unit: str) -> None:
    spacing = (0.3, 0.2, 0.1)
    image = nib.Nifti1Image.from_bytes(nifti(numbered_volume(), spacing_mm=spacing))
    image.header.set_xyzt_units(unit)
    factor = {"micron": 0.001, "meter": 1000.0}[unit]
    grid = image_of({"a.nii": image.to_bytes()})[1]
    assert grid.spacing_mm == pytest.approx([value * factor for value in spacing])


def test_headers_and_damage_that_cannot_be_taken_are_a_line_each() -> None:
    content = nifti(numbered_volume())
    sheared = nib.Nifti1Image.from_bytes(content)
    sheared.set_sform(np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    flat = nib.Nifti1Image.from_bytes(content)
    flat.set_sform(np.diag([1.0, 1, 0, 1]))
    nan_DHW = numbered_volume(dtype="float32")
    nan_DHW[0, 0, 0] = np.nan
    colours = nib.Nifti1Image(np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4))
    assert "aren't at right angles" in complaint(sheared.to_bytes())
    assert "a spacing of 0 mm" in complaint(flat.to_bytes())
    assert "aren't numbers (NaN" in complaint(nifti(nan_DHW))
    assert "NIfTI samples of type" in complaint(colours.to_bytes())
    assert "damaged or truncated" in complaint(content[:-50])
    assert "truncated gzip file" in complaint(gzip.compress(content)[:-20])
    assert "not a volume of a known kind" in complaint(b"some text", "a.bin")
    assert "PNG; ingest.dimensions 3 reads NIfTI, DICOM" in complaint(b"\x89PNG\r\n\x1a\n")
    assert complaint(b"\x89PNG\r\n\x1a\n").endswith("where a folder's pictures are slices, set ingest.slices: folder")
    assert "the file is empty" in complaint(b"")


def patched(content: bytes, **fields: Any) -> bytes:
    """A NIfTI-1 file with other values in its header, as no library writes them."""
    header = nib.Nifti1Header(content[:348], check=False)
    for field, value in fields.items():
        header[field] = value
    return bytes(header.binaryblock) + content[348:]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"sform_code": 0, "qform_code": 0, "pixdim": [1, 0, 1, 1, 1, 1, 1, 1]},
            "a spacing of 0 along an axis (pixdim)",
        ),
        ({"sform_code": 0, "qform_code": 1, "pixdim": [1, 1, -2, 1, 1, 1, 1, 1]}, "a spacing of -2 along an axis (pix"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "its affine isn't made of plain numbers"),
        ({"srow_x": [1e-8, 0, 0, 0]}, "a spacing of 1e-08 mm along an axis; correct the header, or its unit"),
        ({"srow_x": [-5000, 0, 0, 0]}, "a spacing of 5000 mm along an axis; correct the header, or its unit"),
        ({"dim": [3, 7, 0, 5, 1, 1, 1, 1]}, "no voxels (5x0x7)"),
        ({"scl_slope": 1e38}, "aren't numbers (NaN"),
        ({"scl_slope": 1, "scl_inter": np.nan}, "damaged or truncated NIfTI"),
        ({"datatype": 1}, "damaged or truncated NIfTI"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_header_that_says_what_cannot_be_is_a_line(fields: dict[str, Any], message: str) -> None:
    assert message in complaint(patched(nifti(numbered_volume()), **fields))


def test_a_big_endian_file_and_gzip_in_several_members_read_equal() -> None:
    volume_DHW = numbered_volume()
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    little = nib.Nifti1Image.from_bytes(nifti(volume_DHW))
    content = nib.Nifti1Image(np.asarray(little.dataobj), little.affine, header).to_bytes()
    assert content[:4] == (348).to_bytes(4, "big")
    members = gzip.compress(content[:400]) + gzip.compress(content[400:])
    for stored in (content, members):
        image_DHWC, _ = image_of({"a.nii.gz": stored})
        assert image_DHWC.dtype == np.dtype("=i2")
        np.testing.assert_array_equal(image_DHWC[..., 0], volume_DHW)
    assert "a truncated gzip file" in complaint(members[:-9])
    assert "a truncated gzip file" in complaint(gzip.compress(content)[:200])  # in the middle


@pytest.mark.parametrize(
    ("suffix", "line"),
    [
        (".mha", rb"ElementSpacing = .*\n"),
        (".nrrd", rb"space directions: .*\n"),
        (".nrrd", rb"space directions: (?=.*\n)"),
    ],
)
def test_a_header_without_spacing_leaves_it_unknown_and_params_may_say_it(
    suffix: str, line: bytes, tmp_path: Path
) -> None:
    content = re.sub(line, b"old spacings: ", itk_file(numbered_volume(), tmp_path, suffix), count=1)
    content = content.replace(b"old spacings: ", b"" if line.endswith(rb"\n") else b"spacings: nan nan nan #")
    name = f"a{suffix}"
    assert np.isnan(image_of({name: content})[1].spacing_mm).all()
    assert image_of({name: content}, spacing_mm=(2, 1, 1))[1].spacing_mm == (2, 1, 1)


def test_itk_s_words_for_damage_name_no_place_on_the_disk_and_another_unit_is_no_mm(tmp_path: Path) -> None:
    content = itk_file(numbered_volume(), tmp_path, ".nrrd")
    said = complaint(content[:-50], "a.nrrd")
    assert said.startswith("a.nrrd: damaged or truncated NRRD (")
    assert "/" not in said
    other = re.sub(rb"space: .*\n", rb'\g<0>space units: "um" "um" "um"\n', content)
    assert "its voxels are measured in 'um'; save it in mm" in complaint(other, "a.nrrd")


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small file of each kind."""
    volume_DHW, folder = numbered_volume((2, 3, 4)), tmp_path_factory.mktemp("kinds")
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, volume_DHW.astype(np.uint16), metadata={"axes": "ZYX"})
    kinds = {suffix: itk_file(volume_DHW, folder, suffix) for suffix in (".mha", ".nrrd")}
    slice_file = dicom_file(dicom_slices(volume_DHW)[0])
    return {".nii": nifti(volume_DHW), ".tif": tiff.getvalue(), ".dcm": slice_file, **kinds}


@pytest.mark.parametrize("suffix", [".nii", ".mha", ".nrrd", ".tif", ".dcm"])
@given(data=st.data())
def test_bytes_that_were_changed_at_random_give_a_volume_or_a_line(
    every_kind: dict[str, bytes], suffix: str, data: st.DataObject
) -> None:
    content = bytearray(every_kind[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    line, name = f"a{suffix}: read", f"a{suffix}"
    try:
        image_of({name: bytes(content[: data.draw(st.integers(1, len(content)))])})
    except UserError as error:
        line = str(error)
    assert line.startswith(f"{name}: ")
    assert "\n" not in line


def test_a_header_that_names_another_file_is_refused(tmp_path: Path, every_kind: dict[str, bytes]) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(48))
    padding = b"Comment = " + b"x" * 5000 + b"\n"
    mha = every_kind[".mha"].replace(b"ElementDataFile = LOCAL", padding + b"ElementDataFile = /etc/passwd")
    nrrd = every_kind[".nrrd"].replace(b"\n\n", f"\nData File: {tmp_path / 'secret.raw'}\n\n".encode(), 1)
    assert "isn't the name of a file beside it; save both as one .mha" in complaint(mha, "a.mha")
    assert "isn't the name of a file beside it; save both as one .nrrd" in complaint(nrrd, "a.nrrd")


def masks(grid: Grid, content: bytes, tolerance: float = 0.0) -> np.ndarray:
    files = MaskFiles({"m.nii": content}.__getitem__, grid, "a.nii", ChangeLog(), FileRules(), tolerance)
    return files.values("m.nii")


def test_a_mask_is_read_on_its_image_s_grid_whatever_its_own_orientation() -> None:
    mask_DHW = (numbered_volume() % 3).astype(np.uint8)
    grid = image_of({"a.nii": nifti(numbered_volume(), "RAS")})[1]
    np.testing.assert_array_equal(masks(grid, nifti(mask_DHW, "PSR")), mask_DHW)
    with pytest.raises(UserError, match=r"^m\.nii: 5x6x6 voxels, but a\.nii has 5x6x7; export the mask"):
        masks(grid, nifti(mask_DHW[:, :, :-1]))
    with pytest.raises(UserError, match=r"^m\.nii: voxels of 3 x 1\.5 x 0\.8 mm, but a\.nii has 3 x 1\.5 x 0\.75 mm"):
        masks(grid, nifti(mask_DHW, spacing_mm=(3, 1.5, 0.8)))
    masks(grid, nifti(mask_DHW, origin_mm=[value + 0.04 for value in ORIGIN_MM]))  # within a tenth of a voxel


def test_a_mask_that_does_not_say_where_it_lies_is_noted() -> None:
    mask_DHW = (numbered_volume() % 2).astype(np.uint8)
    grid = image_of({"a.nii": nifti(mask_DHW)})[1]
    buffer, changes = io.BytesIO(), ChangeLog()
    tifffile.imwrite(buffer, mask_DHW, metadata={"axes": "ZYX"})
    files = MaskFiles({"m.tif": buffer.getvalue()}.__getitem__, grid, "a.nii", changes, FileRules(), 0.0)
    np.testing.assert_array_equal(files.values("m.tif"), mask_DHW)
    assert [entry.change for entry in changes.entries()] == [
        "mask that doesn't say where it lies: taken as on its image's grid, its first slice the lowest"
    ]


def test_floats_of_a_mask_are_whole_numbers_within_the_stated_tolerance() -> None:
    mask_DHW = (numbered_volume() % 2).astype(np.float32)
    grid = image_of({"a.nii": nifti(mask_DHW)})[1]
    near = nifti(mask_DHW * 0.999)
    with pytest.raises(UserError, match=r"such as 0\.999, no whole numbers.*ingest\.mask_tolerance"):
        masks(grid, near)
    np.testing.assert_array_equal(masks(grid, near, 0.01), mask_DHW)


def packaged(name: str) -> bytes:
    """A file that nibabel brings for its own tests."""
    return (Path(nib.__file__).parent / "tests" / "data" / name).read_bytes()


def test_nibabel_s_own_files_read_as_nibabel_reads_them() -> None:
    for name in ("anatomical.nii", "example_nifti2.nii.gz"):
        image = nib.load(Path(nib.__file__).parent / "tests" / "data" / name)
        rules = {"fourth_axis": "channels"} if image.ndim == 4 else {}
        image_DHWC, grid = image_of({name: packaged(name)}, **rules)
        canonical = nib.as_closest_canonical(image)
        expected = np.asarray(canonical.dataobj, np.float64).reshape(*canonical.shape[:3], -1)[::-1, ::-1]
        np.testing.assert_allclose(image_DHWC, expected.transpose(2, 1, 0, 3), rtol=1e-6)
        assert grid.spacing_mm == pytest.approx(canonical.header.get_zooms()[2::-1], abs=1e-4)
    assert "4D, 2 volumes of 128x96x24" in complaint(packaged("example4d.nii.gz"))


def detached(volume_DHW: np.ndarray, folder: Path, suffix: str) -> dict[str, bytes]:
    """A header and the data beside it, as SimpleITK writes them, by their names in a source."""
    write_itk(volume_DHW, folder / f"a{suffix}")
    return {f"case/{path.name}": path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_header_with_its_data_beside_it_reads_as_simpleitk_reads_it(suffix: str, tmp_path: Path) -> None:
    volume_DHW = numbered_volume()
    files = detached(volume_DHW, tmp_path, suffix)
    header = f"case/a{suffix}"
    image_DHWC, grid = read_volume(files.__getitem__, [(header,)], ChangeLog(), FileRules())
    np.testing.assert_array_equal(image_DHWC[..., 0], volume_DHW)
    assert grid.spacing_mm == SPACING_MM
    (data,) = (name for name in files if name != header)
    with pytest.raises(UserError, match=f"its voxels are in '{data}', which isn't there; put it beside its header"):
        read_volume({header: files[header]}.__getitem__, [(header,)], ChangeLog(), FileRules())


@pytest.mark.parametrize(
    ("suffix", "named", "says"),
    [
        (suffix, named, says)
        for suffix in (".mhd", ".nhdr")
        for named, says in (
            ("/etc/hostname", "isn't the name of a file beside it"),
            ("../a.raw", "isn't the name of a file beside it"),
            ("sub/a.raw", "isn't the name of a file beside it"),
            ("slice%03d.raw 1 9 1", "isn't the name of a file beside it"),
            ("LIST", "isn't the name of a file beside it"),
        )
    ],
)
def test_a_header_that_names_a_path_or_a_list_is_refused(suffix: str, named: str, says: str, tmp_path: Path) -> None:
    files = detached(numbered_volume(), tmp_path, suffix)
    header = f"case/a{suffix}"
    ours = re.sub(rb"(?m)^(ElementDataFile = |data file: ).*$", lambda found: found[1] + named.encode(), files[header])
    with pytest.raises(UserError, match=says):
        read_volume({**files, header: ours}.__getitem__, [(header,)], ChangeLog(), FileRules())


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
@pytest.mark.parametrize("change", [-1, 1])
def test_data_of_another_length_than_the_header_says_are_refused(suffix: str, change: int, tmp_path: Path) -> None:
    volume_DHW = numbered_volume()
    files = detached(volume_DHW, tmp_path, suffix)
    header, raw = f"case/a{suffix}", volume_DHW.tobytes()
    plain = re.sub(rb"CompressedData = True\r?\nCompressedDataSize.*\n", b"CompressedData = False\n", files[header])
    plain = re.sub(rb"encoding: gz\w*", b"encoding: raw", plain)
    (data,) = (name for name in files if name != header)
    kept = {header: plain, data: raw}
    image_DHWC, _ = read_volume(kept.__getitem__, [(header,)], ChangeLog(), FileRules())
    np.testing.assert_array_equal(image_DHWC[..., 0], volume_DHW)
    kept[data] = raw[:change] if change < 0 else raw + b"x"
    with pytest.raises(UserError, match=r"damaged or truncated|bytes, but"):
        read_volume(kept.__getitem__, [(header,)], ChangeLog(), FileRules())
