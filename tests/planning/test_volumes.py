"""Plans of volumes: how files pair, and spacing, patch and batch by nnU-Net's rules."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from segops.commands.init import InitRequest, init
from segops.errors import UserError
from segops.params.ingest import PATIENT_KEY
from segops.params.project import Params
from segops.planning.decisions import Budget, Decision
from segops.planning.pairing import find_pairing, given_pairing
from segops.planning.volume_rules import target_spacing
from segops.planning.wizard import answer
from tests.planning.test_pairing import Named, files
from tests.support.volume_files import dicom_files, dicom_slices, nifti, numbered_volume, seg_file, write

DECATHLON = json.dumps(
    {
        "labels": {"0": "background", "1": "anterior", "2": "posterior"},
        "modality": {"0": "MRI"},
        "training": [{"image": f"./imagesTr/h_{i}.nii.gz", "label": f"./labelsTr/h_{i}.nii.gz"} for i in (1, 2)],
    }
).encode()


@pytest.mark.parametrize(
    ("names", "content", "expected"),
    [
        (
            files("images/{}.nii.gz", 1, 2) + files("masks/{}.nii.gz", 1, 2),
            {},
            {"layout": "pairs", "images": "images", "masks": "masks", "dimensions": 3},
        ),
        (
            files("p{0}/p{0}_t1.nii", 1, 2) + files("p{0}/p{0}_seg.nii", 1, 2),
            {},
            {"layout": "pairs", "images": "*/*_t1.nii", "masks": "*/*_seg.nii", "dimensions": 3},
        ),
        (
            files("imagesTr/c_{}_0000.nii.gz", 1, 2) + files("labelsTr/c_{}.nii.gz", 1, 2),
            {},
            {"layout": "pairs", "images": "imagesTr", "masks": "labelsTr", "stack": ["_0000"], "dimensions": 3},
        ),
        (
            files("imagesTr/h_{}.nii.gz", 1, 2) + files("labelsTr/h_{}.nii.gz", 1, 2),
            {"dataset.json": DECATHLON},
            {
                "layout": "decathlon",
                "mask_values": {0: "background", 1: "anterior", 2: "posterior"},
                "dimensions": 3,
            },
        ),
        (
            files("images/{}.png", 1, 2) + files("masks/{}.png", 1, 2) + ["atlas.nii"],
            {},
            {"layout": "pairs", "images": "images", "masks": "masks"},
        ),
    ],
    ids=["folders", "patients", "nnU-Net", "Decathlon", "pictures"],
)
def test_files_of_volumes_pair_by_their_names(
    names: list[str], content: dict[str, bytes], expected: dict[str, Any]
) -> None:
    found = find_pairing(Named(names, content), "raw")
    assert found.params == expected
    assert len(found.pairs) == 2


@pytest.mark.parametrize(
    ("spacings", "size", "expected"),
    [
        ([[1, 1, 1], [2, 1, 1], [3, 2, 1]], [40, 50, 60], [2, 1, 1]),  # the median along each axis
        ([[4, 1, 1], [5, 1, 1], [6, 1, 1]], [15, 60, 60], [4.2, 1, 1]),  # anisotropic: the 10th percentile
        ([[4, 1, 1], [5, 1, 1], [6, 1, 1]], [30, 60, 60], [5, 1, 1]),  # enough slices all the same
        ([[0.5, 1, 1], [5, 1, 1], [6, 1, 1], [6, 1, 1]], [15, 60, 60], [1.85, 1, 1]),
        ([[0.5, 1, 1], [0.6, 1, 1], [6, 1, 1], [6, 1, 1], [6, 1, 1]], [15, 60, 60], [1, 1, 1]),  # at most as fine
    ],
)
def test_the_target_spacing_is_nnu_net_s(spacings: Any, size: list[int], expected: list[float]) -> None:
    assert target_spacing(np.array(spacings, float), [size] * len(spacings)) == pytest.approx(expected)


def planned(source: str, out: Path, memory_gib: float = 4) -> dict[str, Any]:
    init(InitRequest(source=source, out=out, budget=Budget(30, memory_gib, 2, 40), force=True))
    text: dict[str, Any] = yaml.safe_load(out.read_text())
    Params.model_validate(text)
    return text


def test_drawn_patients_get_spacing_patch_and_networks_for_volumes(tmp_path: Path) -> None:
    source = "synthetic://organs?n=12&size=32&depth=16&seed=7"
    plan = planned(source, tmp_path / "params.yaml")
    assert plan["ingest"]["dimensions"] == 3
    assert plan["validate"]["dtypes"] == ["int16"]
    assert list(plan["candidates"]) == ["unet_3d", "slices"]
    given = plan["candidates"]["unet_3d"]["input"]
    assert given["resize"] == "none"
    assert given["size"] == [16, 32, 32]
    assert 2 < given["spacing_mm"][0] < 4
    assert given["spacing_mm"][1] == given["spacing_mm"][2]
    recipe = plan["candidates"]["unet_3d"]["recipe"]
    assert (recipe["batch_size"], recipe["foreground_patches"]) == (2, 0.33)
    slices = plan["candidates"]["slices"]["input"]
    assert slices["slices"] == {"axis": "axial", "every": 1, "empty_share": 0.5}  # voxels are about 3 x 1 x 1 mm
    assert (slices["resize"], slices["size"]) == ("pad", 32)
    assert (slices["volume"], slices["clip"]) == ({"zscore_over": "volume"}, {"window": [-2.0, 5.0]})
    assert "spacing_mm" not in slices
    assert plan["candidates"]["slices"]["recipe"]["epochs"] > 0
    tight = planned(source, tmp_path / "tight.yaml", 0.05)
    smaller = tight["candidates"]["unet_3d"]["input"]["size"]
    assert np.prod(smaller) < np.prod(given["size"])


def test_ct_is_clipped_to_its_foreground_and_a_missing_spacing_is_asked_for(tmp_path: Path) -> None:
    for number in range(4):
        volume_DHW = (numbered_volume((12, 32, 32)) % 1500 - 1000 + number).astype(np.int16)
        mask_DHW = (volume_DHW > 300).astype(np.uint8)
        write(tmp_path / f"raw/images/{number}.nii.gz", gzip.compress(nifti(volume_DHW)))
        write(tmp_path / f"raw/masks/{number}.nii.gz", gzip.compress(nifti(mask_DHW)))
    plan = planned(str(tmp_path / "raw"), tmp_path / "params.yaml")
    given = plan["candidates"]["unet_3d"]["input"]
    assert given["clip"] == {"percentiles": [0.5, 99.5], "over": "foreground"}
    assert given["spacing_mm"] == [3.0, 1.5, 0.75]
    slices = plan["candidates"]["slices"]["input"]
    assert (slices["clip"], slices.get("volume")) == (given["clip"], None)


def test_a_spacing_that_no_file_says_may_be_answered() -> None:
    asked = Decision("candidates.unet_3d.input.spacing_mm", None, "no file says it", sure=False)
    assert answer(asked, lambda _question, _default: "[3, 1, 1]") == [3, 1, 1]
    with pytest.raises(UserError, match=r"candidates\.unet_3d\.input\.spacing_mm: '\[3, 1\]'"):
        answer(asked, lambda _question, _default: "[3, 1]")


def test_dicom_series_get_the_labels_of_their_segs_as_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENT_KEY, "a key of this project")
    for number in range(4):
        volume_DHW = numbered_volume((12, 32, 32)) + number
        slices = dicom_slices(volume_DHW, patient=f"P^{number}", series=f"1.2.{number + 3}")
        for name, content in dicom_files(slices):
            write(tmp_path / f"raw/study{number}/{name}", content)
        write(tmp_path / f"raw/study{number}.seg", seg_file(slices, volume_DHW % 3, ["kidney", "liver"]))
    plan = planned(str(tmp_path / "raw"), tmp_path / "params.yaml")
    assert plan["ingest"]["layout"] == "dicom"
    assert plan["ingest"]["mask_values"] == {"0": "background", "1": "kidney", "2": "liver"}


def test_globs_that_a_person_gives_are_of_volumes_where_the_files_are() -> None:
    source = Named(files("a/{}.nii.gz", 1, 2) + files("b/{}.nii.gz", 1, 2))
    assert given_pairing(source, "raw", "a", "b").params["dimensions"] == 3


def png(array_HW: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array_HW).save(buffer, "png")
    return buffer.getvalue()


def folders_of_slices(pattern: str, volume_DHW: np.ndarray) -> Named:
    """Two patients whose slices are pictures, and masks of the same names."""
    images = {pattern.format("images", patient, number): png(slice_HW) for patient in (1, 2)
              for number, slice_HW in enumerate(volume_DHW)}  # fmt: skip
    masks = {name.replace("images", "masks"): png(np.eye(16, dtype=np.uint8)) for name in images}
    return Named([], images | masks)


def grown_ball(slices: int = 12) -> np.ndarray:
    """A ball DHW uint8 of 16 x 16 pixels a slice."""
    z, y, x = np.meshgrid(np.linspace(-1, 1, slices), *[np.linspace(-1, 1, 16)] * 2, indexing="ij")
    return ((x**2 + y**2 + z**2 < 0.9) * 200).astype(np.uint8)


SLICES = {"layout": "pairs", "slices": "folder", "dimensions": 3}


def test_numbered_pictures_that_are_alike_are_slices_and_names_make_it_sure() -> None:
    found = find_pairing(folders_of_slices("{0}/p{1}/slice_{2}.png", grown_ball()), "raw")
    assert (found.params, found.sure) == ({"images": "images", "masks": "masks", **SLICES}, True)
    assert found.why == "folders below images and masks hold numbered slices, about 12 each"
    assert len(found.pairs) == 2
    found = find_pairing(folders_of_slices("p{1}/{0}/{2}.png", grown_ball()), "raw")
    assert (found.params, found.sure) == ({"images": "*/images/*.png", "masks": "*/masks/*.png", **SLICES}, False)


@pytest.mark.parametrize(
    "volume_DHW",
    [
        np.random.default_rng(7).integers(0, 255, (12, 16, 16), np.uint8),  # fields of a slide: none like another
        grown_ball(6),  # too few to tell
        np.stack([grown_ball(), *[np.zeros((12, 16, 16), np.uint8)] * 2], axis=-1),  # of colours
    ],
)
def test_numbered_pictures_that_show_no_volume_stay_pictures(volume_DHW: np.ndarray) -> None:
    found = find_pairing(folders_of_slices("{0}/p{1}/{2}.png", volume_DHW), "raw")
    assert found.params == {"layout": "pairs", "images": "images", "masks": "masks"}
    assert len(found.pairs) == 2 * len(volume_DHW)


def test_folders_of_dicom_slices_pair_as_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENT_KEY, "a key of this project")
    content: dict[str, bytes] = {}
    for number, folder in enumerate(("images/p1", "masks/p1", "images/p2", "masks/p2")):
        slices = dicom_slices(numbered_volume(), patient=f"P{number // 2}", series=f"1.2.{number + 3}")
        content |= {f"{folder}/{name}": data for name, data in dicom_files(slices)}
    found = find_pairing(Named([], content), "raw")
    assert (found.params, found.sure) == ({"images": "images", "masks": "masks", **SLICES}, True)


@pytest.mark.parametrize("described", [True, False])
def test_series_that_all_studies_have_are_channels(monkeypatch: pytest.MonkeyPatch, described: bool) -> None:
    monkeypatch.setenv(PATIENT_KEY, "a key of this project")
    content: dict[str, bytes] = {}
    for study in (1, 2):
        tags: dict[str, Any] = {"StudyInstanceUID": f"1.2.{study}.0", "FrameOfReferenceUID": f"1.2.{study}.9"}
        for number, name in enumerate(("T2 [fs]", "FLAIR", "labels", f"Doe {study}")):
            text = {"SeriesDescription": name} if described else {}
            given: dict[str, Any] = {"patient": f"P{study}", "series": f"1.2.{study}.{number}", **tags, **text}
            slices = dicom_slices(numbered_volume(), **given)
            place = f"s{study}/{number}{study}" if described else f"s{study}/{name}"
            content |= {f"{place}/{file}": data for file, data in dicom_files(slices)}
    found = find_pairing(Named([], content), "raw")
    stack = ["flair", "t2 [[]fs]"]
    assert found.params == {"layout": "dicom", "stack": stack, "masks": "labels", "dimensions": 3}
    assert [(len(pair.stacked), pair.group is not None) for pair in found.pairs] == [(1, True)] * 2
    assert "doe" not in found.why
