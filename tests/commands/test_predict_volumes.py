"""From volumes in files to masks where the files lie."""

from __future__ import annotations

import gzip
import io
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segops.commands.batch import batch
from segops.commands.predict import PredictRequest, predict
from segops.data.read_changes import ChangeLog
from segops.data.volumes.read import MaskFiles, read_volume
from segops.errors import UserError
from segops.params.batch import BatchParams
from segops.params.file_rules import FileRules
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from tests.support.small_models import brightness_params, brightness_program, save_candidate
from tests.support.volume_files import dicom_files, dicom_slices, itk_file, nifti, numbered_volume, write, write_itk

SIZE = (5, 34, 40)
INPUT: dict[str, Any] = {"channels": 1, "resize": "none", "slices": {"axis": "axial"}, "clip": {"window": [0, 100]}}


def bright_box() -> tuple[np.ndarray, np.ndarray]:
    """A volume DHW int16 and its mask: a box of 100 in 0, off the middle along every axis."""
    mask_DHW = np.zeros(SIZE, np.uint8)
    mask_DHW[1:3, 6:14, 20:36] = 1
    return (mask_DHW * 100).astype(np.int16), mask_DHW


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_candidate(
        folder,
        brightness_program(32, **INPUT),
        brightness_params(32, **INPUT),
        dimensions=3,
        full_scale={"int16": 1.0, "float32": 1.0},
    )
    return str(folder)


def run(model: str, inputs: list[Path], out: Path, **changes: Any) -> list[Path]:
    request = PredictRequest(
        model=model, runtime=RuntimeParams(), tracking=TrackingParams(), inputs=inputs, out=out, overlays=False
    )
    return predict(PredictRequest(**{**vars(request), **changes}), table=True)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PSR", "IAL"])
def test_a_mask_lies_on_the_axes_of_its_nifti(model: str, tmp_path: Path, orientation: str) -> None:
    image_DHW, _ = bright_box()
    source = write(tmp_path / "in" / "case.nii.gz", gzip.compress(nifti(image_DHW, orientation)))
    files = run(model, [source], tmp_path / "out")
    assert files == [tmp_path / "out/case.nii.gz", tmp_path / "out/predictions.csv"]
    given, written = (nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes())) for path in (source, files[0]))
    np.testing.assert_array_equal(written.affine, given.affine)
    assert written.header.get_sform(coded=True)[1] == given.header.get_sform(coded=True)[1]
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(given.dataobj) == 100)
    assert written.get_data_dtype() == np.uint8
    assert files[0].read_bytes() == run(model, [source], tmp_path / "again")[0].read_bytes()


def test_a_folder_of_volumes_keeps_its_subfolders_and_its_table_says_what_was_found(model: str, tmp_path: Path) -> None:
    image_DHW, mask_DHW = bright_box()
    write(tmp_path / "in/a/one.nii", nifti(image_DHW))
    write(tmp_path / "in/b/two.mha", itk_file(image_DHW, tmp_path, ".mha"))
    write(tmp_path / "in/notes.txt", b"no volume")
    run(model, [tmp_path / "in"], tmp_path / "out")
    files = {"m": (tmp_path / "out/b/two.nii.gz").read_bytes()}
    read_DHWC, _ = read_volume(files.__getitem__, [("m",)], ChangeLog(), FileRules())
    np.testing.assert_array_equal(read_DHWC[..., 0], mask_DHW)
    table = pd.read_csv(tmp_path / "out/predictions.csv")
    assert table["image"].tolist() == ["a/one.nii", "b/two.mha"]
    assert table["mask"].tolist() == ["a/one.nii.gz", "b/two.nii.gz"]
    np.testing.assert_allclose(table["foreground_fraction"], mask_DHW.mean(), atol=1e-6)


def test_a_series_gets_a_seg_that_references_it_and_reads_back_equal(model: str, tmp_path: Path) -> None:
    import pydicom

    image_DHW, mask_DHW = bright_box()
    slices = dicom_slices(image_DHW, intercept=-10)
    for dataset in slices:  # seen from the head, as some scanners send it
        dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[::-1] + 10).tobytes()
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [x, y + 33 * 1.5, z], [1, 0, 0, 0, -1, 0]
    files = dict(dicom_files(slices))
    for name, content in files.items():
        write(tmp_path / "in/study/ct" / name, content)
    (seg, _) = run(model, [tmp_path / "in"], tmp_path / "out")
    assert seg == tmp_path / "out/study/ct.seg.dcm"
    about = pydicom.dcmread(seg)
    assert about.ReferencedSeriesSequence[0].SeriesInstanceUID == slices[0].SeriesInstanceUID
    assert [segment.SegmentLabel for segment in about.SegmentSequence] == ["nucleus"]
    _, grid = read_volume(files.__getitem__, [tuple(files)], ChangeLog(), FileRules())
    read = MaskFiles({"s": seg.read_bytes()}.__getitem__, grid, "ct", ChangeLog(), FileRules(), 0.0)
    (segment,) = read.segments("s")
    np.testing.assert_array_equal(segment.inside_DHW, mask_DHW)


@pytest.mark.filterwarnings("error:.*person name")
def test_an_empty_mask_is_written_too_and_no_name_is_in_a_warning(model: str, tmp_path: Path) -> None:
    for name, content in dicom_files(dicom_slices(np.zeros(SIZE, np.int16), patient="Jane")):
        write(tmp_path / "ct" / name, content)
    (seg, _) = run(model, [tmp_path / "ct"], tmp_path / "out")
    assert seg == tmp_path / "out/ct.seg.dcm"


def test_a_folder_of_two_series_gives_two_numbered_masks(model: str, tmp_path: Path) -> None:
    for number in range(2):
        for name, content in dicom_files(dicom_slices(bright_box()[0], series=f"1.2.{number + 3}")):
            write(tmp_path / "ct" / f"{number}-{name}", content)
    files = run(model, [tmp_path / "ct"], tmp_path / "out")
    assert [path.name for path in files] == ["ct_series1.seg.dcm", "ct_series2.seg.dcm", "predictions.csv"]


def test_overlays_show_three_planes(model: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.nii", nifti(bright_box()[0]))
    files = run(model, [source], tmp_path / "out", overlays=True)
    assert [path.name for path in files] == ["a.nii.gz", "a.overlay.png", "predictions.csv"]


def test_a_bad_volume_does_not_stop_the_others(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in/good.nii", nifti(bright_box()[0]))
    write(tmp_path / "in/time.nii", nifti(np.stack([numbered_volume()] * 2, axis=-1)))
    with pytest.raises(UserError, match=r"^1 of 2 images can't be read \(time\.nii; see above\)"):
        run(model, [tmp_path / "in"], tmp_path / "out")
    assert "4D, 2 volumes" in capsys.readouterr().err
    assert (tmp_path / "out/good.nii.gz").exists()


@pytest.mark.parametrize(
    ("names", "out", "message"),
    [
        (["a.nii", "a.mha"], "out", "would both write"),
        (["a.nii.gz"], "in", "would overwrite the input"),
        (["a.txt"], "out", "no volume found; supported are"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(
    model: str, tmp_path: Path, names: list[str], out: str, message: str
) -> None:
    for name in names:
        write(tmp_path / "in" / name, nifti(bright_box()[0]))
    with pytest.raises(UserError, match=message):
        run(model, [tmp_path / "in"], tmp_path / out)
    assert not (tmp_path / "out").exists()


def test_series_of_a_study_are_the_channels_of_a_model_and_the_mask_references_the_first(tmp_path: Path) -> None:
    image_DHW, _ = bright_box()
    two = {**INPUT, "channels": 2}
    program, params = brightness_program(32, **two), brightness_params(32, **two)
    stack = ["*t1*", "*flair*"]
    save_candidate(tmp_path / "m", program, params, dimensions=3, full_scale={"int16": 1.0}, stack=stack)
    for number, name in enumerate(("FLAIR", "t1 mprage", "scout")):
        slices = dicom_slices(image_DHW, series=f"1.2.{number}", SeriesDescription=name, StudyInstanceUID="1.2.9")
        for slice_ in slices:
            slice_.FrameOfReferenceUID = "1.2.8"
        for name_of_file, content in dicom_files(slices):
            write(tmp_path / "in/study" / str(number) / name_of_file, content)
    (seg, _) = run(str(tmp_path / "m"), [tmp_path / "in"], tmp_path / "out")
    assert seg == tmp_path / "out/study.seg.dcm"
    import pydicom

    assert pydicom.dcmread(seg).ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.1"
    for file in (tmp_path / "in/study/0").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"no series of its study is called '\*flair\*' \(ingest\.stack\)"):
        run(str(tmp_path / "m"), [tmp_path / "in"], tmp_path / "other")


def test_a_header_with_its_data_beside_it_gets_a_mask(model: str, tmp_path: Path) -> None:
    image_DHW, mask_DHW = bright_box()
    (tmp_path / "in").mkdir()
    write_itk(image_DHW, tmp_path / "in/case.mhd")
    run(model, [tmp_path / "in"], tmp_path / "out")
    files = {"m": (tmp_path / "out/case.nii.gz").read_bytes()}
    read_DHWC, _ = read_volume(files.__getitem__, [("m",)], ChangeLog(), FileRules())
    np.testing.assert_array_equal(read_DHWC[..., 0], mask_DHW)
    archive = shutil.make_archive(str(tmp_path / "volumes"), "zip", tmp_path / "in")
    params = BatchParams(source=archive, model=model)
    batch(params, RuntimeParams(), TrackingParams(), masks=tmp_path / "masks")
    assert (tmp_path / "masks/case.nii.gz").read_bytes() == files["m"]


def write_slices(folder: Path, array_DHW: np.ndarray, first: int = 8) -> None:
    """Write slices as pictures, numbered from 8 on: 10 sorts before 8 as text."""
    for number, array_HW in enumerate(array_DHW, start=first):
        buffer = io.BytesIO()
        Image.fromarray(array_HW.astype(np.uint8)).save(buffer, "png")
        write(folder / f"slice{number}.png", buffer.getvalue())


def sliced_model(folder: Path, **about: Any) -> str:
    """A model whose training volumes were folders of pictures."""
    given = {**INPUT, "channels": max(1, len(about.get("stack", [])))}
    rules = FileRules(slices="folder", spacing_mm=(3, 1, 1))
    program, params = brightness_program(32, **given), brightness_params(32, **given)
    save_candidate(folder, program, params, dimensions=3, full_scale={"int16": 1.0}, files=rules, **about)
    return str(folder)


def written_mask(path: Path) -> np.ndarray:
    read_DHWC, _ = read_volume({"m": path.read_bytes()}.__getitem__, [("m",)], ChangeLog(), FileRules())
    return read_DHWC[..., 0]


def test_folders_of_slices_get_a_mask_each_and_a_bad_one_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_DHW, mask_DHW = bright_box()
    model = sliced_model(tmp_path / "m")
    write_slices(tmp_path / "in/a/p.1", image_DHW)
    write_slices(tmp_path / "in/p2", image_DHW)
    (tmp_path / "in/p2/slice9.png").unlink()
    with pytest.raises(UserError, match=r"^1 of 2 images can't be read \(p2; see above\)"):
        run(model, [tmp_path / "in"], tmp_path / "out")
    said = capsys.readouterr().err
    assert "in/p2/slice10.png: the slice before it is number 8, but others are 1 apart; add the missing ones" in said
    np.testing.assert_array_equal(written_mask(tmp_path / "out/a/p.1.nii.gz"), mask_DHW)
    assert pd.read_csv(tmp_path / "out/predictions.csv")["image"].tolist() == ["a/p.1", "p2"]
    files = sorted((tmp_path / "in/a/p.1").iterdir())
    assert run(model, files, tmp_path / "files")[0] == tmp_path / "files/p.1.nii.gz"  # as a shell's glob gives them
    np.testing.assert_array_equal(written_mask(tmp_path / "files/p.1.nii.gz"), mask_DHW)


def test_folders_of_slices_may_be_channels(tmp_path: Path) -> None:
    image_DHW, mask_DHW = bright_box()
    model = sliced_model(tmp_path / "m", stack=["_t1", "_flair"])
    for channel in ("t1", "flair"):
        write_slices(tmp_path / f"in/p_{channel}", image_DHW)
    run(model, [tmp_path / "in"], tmp_path / "out")
    np.testing.assert_array_equal(written_mask(tmp_path / "out/p.nii.gz"), mask_DHW)
    write_slices(tmp_path / "in/q_t1", image_DHW)
    with pytest.raises(UserError, match=r"in/q_t1: its channel q_flair is missing; give all of _t1, _flair"):
        run(model, [tmp_path / "in"], tmp_path / "other")


def test_pictures_that_are_no_slices_to_the_model_are_a_line_that_names_their_folder(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_slices(tmp_path / "in/p", bright_box()[0])
    why = r"in/p: pictures such as slice10\.png aren't read as slices: the model was trained on volumes in files; save"
    with pytest.raises(UserError, match=r"no volume found; .*" + why):
        run(model, [tmp_path / "in"], tmp_path / "out")
    write(tmp_path / "in/case.nii", nifti(bright_box()[0]))
    run(model, [tmp_path / "in"], tmp_path / "out")
    assert re.search(why, capsys.readouterr().err)


def test_a_series_is_its_uid_however_its_files_are_given(model: str, tmp_path: Path) -> None:
    slices = dicom_slices(bright_box()[0], ReferencedSeriesSequence=[])  # an image may reference others
    spread = [
        write(tmp_path / f"in/{number}/{name}", content) for number, (name, content) in enumerate(dicom_files(slices))
    ]
    assert run(model, [tmp_path / "in"], tmp_path / "out")[0] == tmp_path / "out/in.seg.dcm"
    assert run(model, spread, tmp_path / "files")[0] == tmp_path / "files/in.seg.dcm"


def test_what_a_person_predicts_is_left_out_of_the_inputs(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.dcm", dicom_files(dicom_slices(bright_box()[0][:1]))[0][1])
    with pytest.raises(UserError, match=r"1 of 1 images can't be read"):
        run(model, [tmp_path / "a.dcm"], tmp_path / "out")
    assert "a series of one slice, no volume; leave it out of the inputs" in capsys.readouterr().err
