"""Several DICOM series of a study as the channels of a volume, and series of masks, from files to the dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segops.contracts.dataset import Dataset
from segops.data.manifest import read_manifest
from segops.data.shards import read_examples
from segops.errors import UserError
from segops.params.ingest import PATIENT_KEY
from segops.stages.ingest import ingest
from tests.support.factories import ingest_params
from tests.support.volume_files import dicom_files, dicom_slices, numbered_volume, seg_file, write

CLASSES = {0: "background", 1: "liver", 2: "kidney"}
VOLUME_DHW = numbered_volume((4, 5, 6))
MASK_DHW = (VOLUME_DHW % 4 % 3).astype(np.int16)
STACK = ["*T1*", "*flair*"]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENT_KEY, "a key of this project")


def run(raw: Path, **params: Any) -> Dataset:
    given = {"dimensions": 3, "mask_values": CLASSES, "layout": "dicom", **params}
    return ingest(ingest_params(raw, **given), dataset=raw.parent / "dataset")


def complaint(raw: Path, **params: Any) -> str:
    with pytest.raises(UserError) as error:
        run(raw, **params)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    return str(error.value)


def write_series(folder: Path, array_DHW: np.ndarray, series: int, description: str, **tags: Any) -> list[Any]:
    slices = dicom_slices(array_DHW, series=f"1.2.{series}", SeriesDescription=description, **tags)
    for name, content in dicom_files(slices):
        write(folder / name, content)
    return slices


def write_study(raw: Path, number: int, *, seg: bool = True, **tags: Any) -> None:
    """A study of T1 and FLAIR, whose SEG references FLAIR; `tags` are FLAIR's."""
    study = {"StudyInstanceUID": f"1.2.{number}.0", "FrameOfReferenceUID": f"1.2.{number}.9", "PatientID": f"P{number}"}
    write_series(raw / f"s{number}/a", VOLUME_DHW + number, 10 * number + 1, "secret t1 mprage", **study)
    flair_DHW = VOLUME_DHW + number + 100
    slices = write_series(raw / f"s{number}/b", flair_DHW, 10 * number + 2, "secret FLAIR", **{**study, **tags})
    if seg:
        write(raw / f"s{number}/seg", seg_file(slices, MASK_DHW, ["liver", "kidney"]))


def test_series_of_a_study_are_channels_in_the_order_of_the_stack(tmp_path: Path) -> None:
    for number in (1, 2):
        write_study(tmp_path / "raw", number)
    write_series(tmp_path / "raw/s1/c", VOLUME_DHW[:2], 99, "other", StudyInstanceUID="1.2.1.0")
    about = run(tmp_path / "raw", stack=STACK)
    assert (about.images, about.groups, about.stack) == (2, 2, STACK)
    assert [(unused.kind, unused.files) for unused in about.unused] == [("DICOM, of volumes", 2)]
    examples = sorted(read_examples(tmp_path / "dataset"), key=lambda example: int(example.image_HWC.min()))
    for number, example in enumerate(examples, start=1):
        expected_DHWC = np.stack([VOLUME_DHW + number, VOLUME_DHW + number + 100], axis=-1)
        np.testing.assert_array_equal(example.image_HWC, expected_DHWC)
        np.testing.assert_array_equal(example.mask_HW, MASK_DHW)
    files = [file.read_bytes() for file in sorted((tmp_path / "dataset").rglob("*")) if file.is_file()]
    assert not any(b"secret" in content for content in files)
    assert read_manifest(tmp_path / "dataset")[1]["group_id"].str.fullmatch(r"patient-[0-9a-f]{12}").all()


@pytest.mark.parametrize(
    ("stack", "says"),
    [
        (["*t1*", "*t2*"], r"^s1/a/slice0\.dcm: no series of its study is called '\*t2\*' \(ingest\.stack\)"),
        (["*t1*", "*secret*"], r"are of two series of a study, both called '\*secret\*' \(ingest\.stack\)"),
        (["*t1*", "a"], r"its series is called both '\*t1\*' and 'a' \(ingest\.stack\)"),
    ],
)
def test_a_channel_that_none_or_two_match_is_a_line(tmp_path: Path, stack: list[str], says: str) -> None:
    write_study(tmp_path / "raw", 1)
    with pytest.raises(UserError, match=says):
        run(tmp_path / "raw", stack=stack)


def test_a_study_without_a_channel_is_left_out_where_params_skip_it(tmp_path: Path) -> None:
    write_study(tmp_path / "raw", 1)
    write_series(tmp_path / "raw/s2", VOLUME_DHW, 21, "t1", StudyInstanceUID="1.2.2.0")
    assert "'*flair*' (ingest.stack)" in complaint(tmp_path / "raw", stack=STACK)
    assert run(tmp_path / "raw", stack=STACK, unpaired="skip").images == 1


def test_channels_on_another_grid_or_in_another_frame_of_reference_are_refused(tmp_path: Path) -> None:
    write_study(tmp_path / "one/raw", 1, PixelSpacing=[1.5, 0.8])
    said = complaint(tmp_path / "one/raw", stack=STACK)
    assert "voxels of 3 x 1.5 x 0.8 mm, but s1/a/slice0.dcm has 3 x 1.5 x 0.75 mm" in said
    assert said.endswith("channels need one grid: register and resample them")
    write_study(tmp_path / "two/raw", 1, FrameOfReferenceUID="1.2.77")
    assert "its frame of reference isn't that of s1/a/slice0.dcm" in complaint(tmp_path / "two/raw", stack=STACK)


def test_a_series_may_be_the_mask_of_its_study(tmp_path: Path) -> None:
    write_study(tmp_path / "raw", 1, seg=False)
    study = {"StudyInstanceUID": "1.2.1.0", "FrameOfReferenceUID": "1.2.1.9"}
    write_series(tmp_path / "raw/s1/labels", MASK_DHW, 13, "secret labels", **study)
    assert "2 images without mask" in complaint(tmp_path / "raw", masks="*labels", exclude=["s1/labels"])
    assert "nothing says which of 2 series of its study it is of" in complaint(tmp_path / "raw", masks="*labels")
    run(tmp_path / "raw", masks="*labels", stack=STACK)
    (example,) = read_examples(tmp_path / "dataset")
    assert example.image_HWC.shape == (4, 5, 6, 2)
    np.testing.assert_array_equal(example.mask_HW, MASK_DHW)
    run(tmp_path / "raw", masks="labels", exclude=["s1/b"])  # by its folder; a single series needs no stack
    (example,) = read_examples(tmp_path / "dataset")
    np.testing.assert_array_equal(example.mask_HW, MASK_DHW)


def test_a_series_of_masks_beside_a_seg_is_one_mask_too_many(tmp_path: Path) -> None:
    write_study(tmp_path / "raw", 1)
    write_series(
        tmp_path / "raw/s1/labels", MASK_DHW, 13, "", StudyInstanceUID="1.2.1.0", FrameOfReferenceUID="1.2.1.9"
    )
    said = complaint(tmp_path / "raw", masks="labels", stack=STACK)
    assert said.startswith("s1/seg and s1/labels/slice0.dcm are both masks of s1/a/slice0.dcm; leave one out by")
