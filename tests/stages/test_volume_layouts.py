"""Volumes by the layouts that hold them, from files to the dataset."""

from __future__ import annotations

import gzip
import json
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
from tests.support.volume_files import dicom_files, dicom_slices, nifti, numbered_volume, seg_file, write

CLASSES = {0: "background", 1: "liver", 2: "kidney"}
VOLUME_DHW = numbered_volume((6, 5, 7))
MASK_DHW = (VOLUME_DHW % 4 % 3).astype(np.uint8)
PATIENT = "Jane^Doe^1970"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENT_KEY, "a key of this project")


def run(raw: Path, dataset: Path, **params: Any) -> Dataset:
    given = {"dimensions": 3, "mask_values": CLASSES, **params}
    return ingest(ingest_params(raw, **given), dataset=dataset)


def complaint(raw: Path, **params: Any) -> str:
    with pytest.raises(UserError) as error:
        run(raw, raw.parent / "dataset", **params)
    return str(error.value)


def write_series(folder: Path, number: int, patient: str, mask: str = "seg") -> None:
    slices = dicom_slices(VOLUME_DHW + number, patient=patient, series=f"1.2.{number + 3}")
    for name, content in dicom_files(slices):
        write(folder / name, content)
    if mask == "seg":
        write(folder.parent / f"seg{number}", seg_file(slices, MASK_DHW, ["liver", "kidney"]))
    elif mask == "nifti":
        write(folder / "mask.nii.gz", gzip.compress(nifti(MASK_DHW, "RAS"), mtime=0))


@pytest.mark.usefixtures("key")
def test_series_are_paired_with_their_seg_and_grouped_by_patient(tmp_path: Path) -> None:
    for number, patient in enumerate([PATIENT, PATIENT, "John^Doe"]):
        write_series(tmp_path / "raw" / f"study{number}" / "ct", number, patient)
    about = run(tmp_path / "raw", tmp_path / "dataset", layout="dicom")
    assert (about.images, about.groups, about.modalities) == (3, 2, {"CT": 3})
    assert about.unused == []
    examples = {int(example.image_HWC.min()): example for example in read_examples(tmp_path / "dataset")}
    for number in range(3):
        np.testing.assert_array_equal(examples[number].image_HWC[..., 0], VOLUME_DHW + number)
        np.testing.assert_array_equal(examples[number].mask_HW, MASK_DHW)


@pytest.mark.usefixtures("key")
def test_a_folder_a_study_may_hold_a_mask_file_beside_its_series(tmp_path: Path) -> None:
    for number in range(2):
        write_series(tmp_path / "raw" / f"study{number}" / "ct", number, f"p{number}", mask="nifti")
    run(tmp_path / "raw", tmp_path / "dataset", layout="dicom")
    for example in read_examples(tmp_path / "dataset"):
        np.testing.assert_array_equal(example.mask_HW, MASK_DHW)


@pytest.mark.usefixtures("key")
def test_no_text_of_a_header_reaches_the_dataset(tmp_path: Path) -> None:
    write_series(tmp_path / "raw/ct", 0, PATIENT)
    run(tmp_path / "raw", tmp_path / "dataset", layout="dicom")
    for file in sorted((tmp_path / "dataset").rglob("*")):
        assert not file.is_file() or b"Jane" not in file.read_bytes()
    _, manifest = read_manifest(tmp_path / "dataset")
    assert manifest["group_id"].str.fullmatch(r"patient-[0-9a-f]{12}").all()


@pytest.mark.usefixtures("key")
def test_names_that_may_be_burned_in_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slices = dicom_slices(VOLUME_DHW, BurnedInAnnotation="YES")
    for name, content in dicom_files(slices):
        write(tmp_path / "raw/ct" / name, content)
    write(tmp_path / "raw/seg", seg_file(slices, MASK_DHW, ["liver", "kidney"]))
    run(tmp_path / "raw", tmp_path / "dataset", layout="dicom")
    assert "ingest: warning: 1 series (ct/slice0.dcm): DICOM that says that names may be" in capsys.readouterr().err


def test_patients_need_a_key_and_another_key_gives_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "raw/ct", 0, PATIENT)
    monkeypatch.delenv(PATIENT_KEY, raising=False)
    assert complaint(tmp_path / "raw", layout="dicom").startswith("SEGOPS_PATIENT_KEY isn't set: patients' ids")
    monkeypatch.setenv(PATIENT_KEY, "short")
    assert complaint(tmp_path / "raw", layout="dicom").startswith("SEGOPS_PATIENT_KEY is too short")
    groups = []
    for secret in ("the first project's key", "the second project's key"):
        monkeypatch.setenv(PATIENT_KEY, secret)
        run(tmp_path / "raw", tmp_path / "dataset", layout="dicom")
        groups.append(read_manifest(tmp_path / "dataset")[1]["group_id"][0])
    assert groups[0] != groups[1]


@pytest.mark.usefixtures("key")
def test_series_without_a_mask_and_masks_without_a_series_are_named(tmp_path: Path) -> None:
    write_series(tmp_path / "raw/a/ct", 0, "A^A")
    write_series(tmp_path / "raw/b/ct", 1, "B^B", mask="none")
    assert "1 image without mask: b/ct/slice0.dcm" in complaint(tmp_path / "raw", layout="dicom")
    for file in (tmp_path / "raw/a/ct").iterdir():
        file.unlink()
    said = complaint(tmp_path / "raw", layout="dicom")
    assert "1 mask without image: a/seg0" in said
    slices = dicom_slices(VOLUME_DHW, series="1.2.4")
    for name in ("one", "two"):
        write(tmp_path / "raw/b" / name, seg_file(slices, MASK_DHW, ["liver", "kidney"]))
    said = complaint(tmp_path / "raw", layout="dicom", unpaired="skip")
    assert said == "b/one and b/two are both masks of b/ct/slice0.dcm; leave one out by ingest.exclude"


@pytest.mark.usefixtures("key")
def test_a_segment_of_an_unknown_label_is_refused_and_may_be_ignored(tmp_path: Path) -> None:
    slices = dicom_slices(VOLUME_DHW)
    for name, content in dicom_files(slices):
        write(tmp_path / "raw/ct" / name, content)
    write(tmp_path / "raw/seg", seg_file(slices, MASK_DHW, ["liver", "spleen"]))
    assert "segment 'spleen': class 'spleen' is not in ingest.mask_values" in complaint(
        tmp_path / "raw", layout="dicom"
    )
    run(tmp_path / "raw", tmp_path / "dataset", layout="dicom", ignore_classes=["spleen"])
    (example,) = read_examples(tmp_path / "dataset")
    np.testing.assert_array_equal(example.mask_HW, np.where(MASK_DHW == 2, 255, MASK_DHW))


def write_decathlon(raw: Path, labels: dict[str, str] | None = None) -> None:
    """The layout of the Medical Segmentation Decathlon's hippocampus, with volumes of other sizes."""
    entries = []
    for number in range(3):
        name = f"hippocampus_{number:03d}.nii.gz"
        size = (6 + number, 5, 7)
        volume_DHW = numbered_volume(size, "float32")
        write(raw / "imagesTr" / name, gzip.compress(nifti(volume_DHW, "RAS"), mtime=0))
        write(raw / "labelsTr" / name, gzip.compress(nifti((volume_DHW % 3).astype(np.uint8), "RAS"), mtime=0))
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    write(raw / "imagesTs/hippocampus_100.nii.gz", gzip.compress(nifti(VOLUME_DHW), mtime=0))
    about = {
        "name": "Hippocampus",
        "modality": {"0": "MRI"},
        "labels": labels or {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": entries,
        "test": ["./imagesTs/hippocampus_100.nii.gz"],
    }
    write(raw / "dataset.json", json.dumps(about).encode())


def test_the_decathlon_s_layout_is_read_as_its_dataset_json_says(tmp_path: Path) -> None:
    write_decathlon(tmp_path / "Task04_Hippocampus")
    classes = {0: "background", 1: "anterior", 2: "posterior"}
    about = run(tmp_path / "Task04_Hippocampus", tmp_path / "dataset", layout="decathlon", mask_values=classes)
    assert (about.images, about.groups) == (3, 3)
    assert about.sizes == {"6x5x7": 1, "7x5x7": 1, "8x5x7": 1}
    for example in read_examples(tmp_path / "dataset"):
        np.testing.assert_array_equal(example.mask_HW, example.image_HWC[..., 0] % 3)
    assert [(unused.kind, unused.named) for unused in about.unused if unused.images] == [
        ("NIfTI, of volumes", ["imagesTs/hippocampus_100.nii.gz"])
    ]


def test_a_decathlon_whose_labels_or_files_are_others_is_a_line(tmp_path: Path) -> None:
    write_decathlon(tmp_path / "raw")
    said = complaint(tmp_path / "raw", layout="decathlon")
    assert (
        "value 1 is 'Anterior' there, and liver in ingest.mask_values; write ingest.mask_values: {0: background" in said
    )
    write_decathlon(tmp_path / "raw", {"0": "background", "1": "liver", "2": "kidney"})
    (tmp_path / "raw/labelsTr/hippocampus_001.nii.gz").unlink()
    said = complaint(tmp_path / "raw", layout="decathlon")
    assert "training 2: 'labelsTr/hippocampus_001.nii.gz' is not in the source" in said


def test_nnu_net_s_layout_pairs_by_the_end_of_names(tmp_path: Path) -> None:
    for number in range(2):
        for channel in range(2):
            content = nifti(VOLUME_DHW + number + 10 * channel, "RAS")
            write(tmp_path / f"raw/imagesTr/case_{number}_000{channel}.nii.gz", gzip.compress(content))
        write(tmp_path / f"raw/labelsTr/case_{number}.nii.gz", gzip.compress(nifti(MASK_DHW, "RAS")))
    stack = ["_0000", "_0001"]
    run(tmp_path / "raw", tmp_path / "dataset", images="imagesTr", masks="labelsTr", stack=stack)
    for number, example in enumerate(read_examples(tmp_path / "dataset")):
        assert example.image_id == f"case_{number}"
        expected_DHWC = np.stack([VOLUME_DHW + number, VOLUME_DHW + number + 10], axis=-1)
        np.testing.assert_array_equal(example.image_HWC, expected_DHWC)


def test_objects_told_apart_in_a_volume_keep_their_ids(tmp_path: Path) -> None:
    ids_DHW = np.zeros((4, 6, 6), np.uint16)
    ids_DHW[:2, :3, :3], ids_DHW[2:, :3, :3], ids_DHW[:, 4:, 4:] = 7, 9, 300
    write(tmp_path / "raw/images/a.nii", nifti(numbered_volume((4, 6, 6)), "RAS"))
    write(tmp_path / "raw/masks/a.nii", nifti(ids_DHW, "LPS"))
    values = {0: "background", 1: "nucleus"}
    about = run(tmp_path / "raw", tmp_path / "dataset", mask_kind="objects", mask_values=values)
    assert about.objects == 3
    (example,) = read_examples(tmp_path / "dataset")
    assert example.objects_HW is not None
    np.testing.assert_array_equal(example.objects_HW, np.searchsorted([0, 7, 9, 300], ids_DHW))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dimensions": 3, "layout": "coco"}, "layout coco holds pictures"),
        ({"dimensions": 2, "layout": "dicom"}, "layout dicom holds volumes; set dimensions: 3"),
        ({"dimensions": 2, "spacing_mm": [1, 1, 1]}, "fourth_axis and spacing_mm are for volumes"),
        ({"dimensions": 3, "planes": "split"}, "planes: split is for pictures, dimensions is 3"),
        ({"dimensions": 3, "group_by": "fields"}, "group_by: fields and mask colours are for pictures"),
        ({"dimensions": 2, "slices": "folder"}, "slices: folder is of volumes"),
        (
            {"dimensions": 3, "slices": "folder", "layout": "csv"},
            "slices: folder works with layout pairs, not with csv",
        ),
    ],
)
def test_params_of_pictures_and_of_volumes_are_not_mixed(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ingest_params("raw", **params)


def test_an_annotation_of_pictures_is_no_mask_of_a_volume(tmp_path: Path) -> None:
    write(tmp_path / "raw/images/a.nii", nifti(VOLUME_DHW))
    write(tmp_path / "raw/masks/a.json", b"{}")
    said = complaint(tmp_path / "raw", masks="masks/*.json")
    assert said == "masks/a.json: annotations of pictures; the mask of a volume is a volume"
