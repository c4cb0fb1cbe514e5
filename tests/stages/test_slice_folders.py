"""Folders of slices as volumes: pictures by their numbers, DICOM by position, as images, channels and masks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segops.data.manifest import read_manifest
from segops.data.shards import read_examples
from segops.errors import UserError
from segops.stages.ingest import ingest
from tests.support.factories import ingest_params
from tests.support.volume_files import SPACING_MM, dicom_files, dicom_slices, nifti, numbered_volume, write

CLASSES = {0: "background", 1: "liver", 2: "kidney"}
VOLUME_DHW = numbered_volume((11, 4, 5), "uint8")  # eleven: slice 10 sorts before slice 2 as text
MASK_DHW = (VOLUME_DHW % 4 % 3).astype(np.uint8)


def run(raw: Path, **params: Any) -> None:
    given = {"dimensions": 3, "slices": "folder", "spacing_mm": SPACING_MM, "mask_values": CLASSES, **params}
    ingest(ingest_params(raw, **given), dataset=raw.parent / "dataset")


def write_pictures(folder: Path, array_DHW: np.ndarray, first: int = 1, suffix: str = "png") -> None:
    for number, array_HW in enumerate(array_DHW, start=first):
        buffer = io.BytesIO()
        if suffix == "png":
            Image.fromarray(array_HW).save(buffer, "png")
        else:
            tifffile.imwrite(buffer, array_HW)
        write(folder / f"case 7 slice{number}.{suffix}", buffer.getvalue())


def test_pictures_are_slices_by_their_numbers_with_the_spacing_of_params(tmp_path: Path) -> None:
    for number in range(2):
        write_pictures(tmp_path / f"raw/images/p{number}_a", VOLUME_DHW + number)
        write_pictures(tmp_path / f"raw/images/p{number}_b", VOLUME_DHW.astype(np.uint16) * 200, suffix="tif")
        write_pictures(tmp_path / f"raw/masks/p{number}", MASK_DHW)
    run(tmp_path / "raw", stack=["_a", "_b"])
    for number, example in enumerate(read_examples(tmp_path / "dataset")):
        assert example.image_id == f"p{number}"
        expected_DHWC = np.stack([VOLUME_DHW.astype(np.float32) + number, VOLUME_DHW.astype(np.float32) * 200], axis=-1)
        np.testing.assert_array_equal(example.image_HWC, expected_DHWC)
        np.testing.assert_array_equal(example.mask_HW, MASK_DHW)
    about, manifest = read_manifest(tmp_path / "dataset")
    assert about.unused == []
    assert tuple(manifest.loc[0, ["spacing_d_mm", "spacing_h_mm", "spacing_w_mm"]]) == SPACING_MM


def test_dicom_series_are_images_and_masks_by_their_folders(tmp_path: Path) -> None:
    for folder, array_DHW, series in (("images/p", VOLUME_DHW, "1.2.3"), ("masks/p", MASK_DHW, "1.2.4")):
        for name, content in dicom_files(dicom_slices(array_DHW.astype(np.int16), series=series)):
            write(tmp_path / "raw" / folder / name, content)
    run(tmp_path / "raw", spacing_mm=None)
    (example,) = read_examples(tmp_path / "dataset")
    np.testing.assert_array_equal(example.image_HWC[..., 0], VOLUME_DHW)
    np.testing.assert_array_equal(example.mask_HW, MASK_DHW)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("missing", r"slice6\.png: the slice before it is number 4, but others are 1 apart; add the missing ones"),
        ("alone", r"alone in its folder \(ingest\.slices: folder\)"),
        ("unnumbered", r"differ in more than a number"),
        ("shifted", r"masks/p/case 7 slice2\.png: a folder of 11 slices from 2 to 12, but that of .*from 1 to 11"),
        ("size", r"uint8 of 4x4 pixels and 1 channels, but .*slice1\.png is uint8 of 4x5 pixels"),
        ("kinds", r"are slices of one folder; save all as one kind"),
        ("volumes", r"slice1\.nii: NIfTI, no picture, but a slice of its folder \(ingest\.slices\)"),
        ("loose", r"images/p\.png: ingest\.slices is folder, but it is in no volume's folder"),
    ],
)
def test_a_folder_that_is_no_volume_is_a_line(tmp_path: Path, change: str, says: str) -> None:
    images, masks = tmp_path / "raw/images/p", tmp_path / "raw/masks/p"
    write_pictures(images, VOLUME_DHW)
    write_pictures(masks, MASK_DHW, first=2 if change == "shifted" else 1)
    match change:
        case "missing":
            (images / "case 7 slice5.png").unlink()
        case "alone":
            for number in range(2, 12):
                (images / f"case 7 slice{number}.png").unlink()
        case "unnumbered":
            (images / "case 7 slice5.png").rename(images / "case 8 slice5.png")
        case "size":
            Image.fromarray(VOLUME_DHW[4][:, :4]).save(images / "case 7 slice5.png")
        case "kinds":
            (images / "case 7 slice5.png").rename(images / "case 7 slice5.tif")
        case "volumes":
            for file in sorted(images.iterdir()):
                write(file.with_suffix(".nii"), nifti(VOLUME_DHW))
                file.unlink()
        case "loose":
            Image.fromarray(VOLUME_DHW[4]).save(tmp_path / "raw/images/p.png")
    with pytest.raises(UserError, match=says) as error:
        run(tmp_path / "raw")
    assert "\n" not in str(error.value)


def test_a_picture_that_says_another_distance_of_pixels_is_refused(tmp_path: Path) -> None:
    for kind, array_DHW in (("images", VOLUME_DHW), ("masks", MASK_DHW)):
        for number, array_HW in enumerate(array_DHW):
            buffer = io.BytesIO()
            flat = {"axes": "YX", "PhysicalSizeX": 500.0, "PhysicalSizeY": 500.0}
            tifffile.imwrite(buffer, array_HW, ome=True, metadata=flat)
            write(tmp_path / "raw" / kind / "p" / f"{number}.tif", buffer.getvalue())
    with pytest.raises(UserError, match=r"its header says \? x 0\.5 x 0\.5 mm, but ingest\.spacing_mm is 3 x 1\.5"):
        run(tmp_path / "raw")
    run(tmp_path / "raw", spacing_mm=(3, 0.5, 0.5))
