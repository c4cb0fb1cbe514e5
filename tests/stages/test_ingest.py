import io
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from segops.contracts.dataset import Dataset
from segops.contracts.tables import MANIFEST_COLUMNS, read_table
from segops.contracts.volumes import SPACING_COLUMNS
from segops.data.fingerprint import array_sha256, describe_image
from segops.data.shards import read_examples, read_shards
from segops.errors import UserError
from segops.evaluation.object_scores import InstanceTally
from segops.params.file_rules import FileRules
from segops.stages.ingest import ingest
from tests.data.test_source_conformance import QUERY, as_folder
from tests.data.test_sources import packed
from tests.support.factories import ingest_params, make_pairs, write_image, zip_folder


def run(source: Path | str, dataset: Path, **changes: Any) -> tuple[Dataset, pd.DataFrame]:
    result = ingest(ingest_params(source, **changes), dataset=dataset)
    return result, read_table(dataset / "manifest.parquet", MANIFEST_COLUMNS)


def complaint(source: Path | str, dataset: Path, **changes: Any) -> str:
    """The error of an ingest, after checking that it is one line and left nothing behind."""
    before = sorted(dataset.parent.iterdir())
    with pytest.raises(UserError) as error:
        run(source, dataset, **changes)
    assert sorted(dataset.parent.iterdir()) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def outputs(dataset: Path) -> dict[str, bytes]:
    files = (path for path in dataset.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(dataset).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_every_kind_of_source_gives_the_same_dataset(kind: str, tmp_path: Path) -> None:
    run(QUERY.uri, tmp_path / "expected", licence="unknown")
    run(as_folder(tmp_path) if kind == "folder" else packed(kind, tmp_path), tmp_path / "found")
    expected, found = outputs(tmp_path / "expected"), outputs(tmp_path / "found")
    for files in (expected, found):
        described = json.loads(files.pop("dataset.json"))
        assert described.pop("source")
        assert described.pop("source_sha256")
        files["dataset.json"] = json.dumps(described).encode()
    assert found == expected


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    source = zip_folder(make_pairs(tmp_path / "raw"), tmp_path / "raw.zip")
    run(source, tmp_path / "1")
    run(source, tmp_path / "elsewhere" / "2")
    assert outputs(tmp_path / "1") == outputs(tmp_path / "elsewhere" / "2")
    assert sorted(outputs(tmp_path / "1")) == ["dataset.json", "manifest.parquet", "shards/shard-00000.tar"]


def test_an_earlier_dataset_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "left-over").write_text("old")
    (tmp_path / ".dataset.partial").mkdir()
    (tmp_path / ".dataset.partial" / "half").write_text("written by a killed run")
    run(make_pairs(tmp_path / "raw"), tmp_path / "dataset")
    names = {path.name for path in (tmp_path / "dataset").iterdir()}
    assert names == {"dataset.json", "manifest.parquet", "run.json", "shards"}
    assert not (tmp_path / ".dataset.partial").exists()


def test_growth_leaves_the_rows_of_old_images_as_they_were(tmp_path: Path) -> None:
    _, few = run(make_pairs(tmp_path / "few", n=3), tmp_path / "1")
    _, many = run(make_pairs(tmp_path / "many", n=5), tmp_path / "2")
    pd.testing.assert_frame_equal(many[:3], few)


def test_a_modality_that_the_layout_names_goes_before_the_pixels_one(tmp_path: Path) -> None:
    make_pairs(tmp_path / "raw", n=2)
    images, masks = (sorted((tmp_path / "raw" / kind).iterdir()) for kind in ("images", "masks"))
    rows = [f"images/{image.name},masks/{mask.name},p1,PAS" for image, mask in zip(images, masks, strict=True)]
    (tmp_path / "raw" / "table.csv").write_text("\n".join(["image,mask,group,modality", *rows]))
    dataset, manifest = run(tmp_path / "raw", tmp_path / "d", layout="csv")
    assert manifest["modality"].tolist() == ["PAS", "PAS"]
    assert manifest["group_id"].tolist() == ["p1", "p1"]
    assert dataset.modalities == {"PAS": 2}


def test_the_manifest_says_what_the_files_hold(tmp_path: Path) -> None:
    image_HWC = np.zeros((2, 4, 3), np.uint8)
    image_HWC[0] = [255, 255, 255]
    image_HWC[1] = [51, 0, 0]
    write_image(tmp_path / "raw" / "images" / "a.png", image_HWC)
    write_image(tmp_path / "raw" / "masks" / "a.png", np.array([[0, 255, 255, 255], [0, 0, 0, 127]], np.uint8))
    values = {0: "background", 127: "myelin", 255: "axon"}
    dataset, manifest = run(tmp_path / "raw", tmp_path / "d", mask_values=values, licence="MIT")
    mean = (12 * 255 + 4 * 51) / 24 / 255
    std = ((12 + 4 * 0.2**2) / 24 - mean**2) ** 0.5
    row = manifest.iloc[0].to_dict()
    assert all(math.isnan(row.pop(name)) for name in SPACING_COLUMNS)
    assert row == {
        "image_id": "a",
        "group_id": "a",
        "shard": "shards/shard-00000.tar",
        "given_subset": "",
        "modality": "appearance-1",
        "depth": 1,
        "height": 2,
        "width": 4,
        "channels": 3,
        "dtype": "uint8",
        "mask_height": 2,
        "mask_width": 4,
        "image_sha256": array_sha256(image_HWC),
        "mask_sha256": array_sha256(np.array([[0, 2, 2, 2], [0, 0, 0, 1]], np.uint8)),
        "objects_sha256": "",
        "foreground_fraction": 0.5,
        "ignored_fraction": 0.0,
        "classes": "0 1 2",
        "instances": -1,
        "intensity_min": 0.0,
        "intensity_max": 1.0,
        "intensity_mean": pytest.approx(mean),
        "intensity_std": pytest.approx(std),
        "saturated_fraction": 0.5,
        "source_image": "images/a.png",
        "source_mask": "masks/a.png",
    }
    assert dataset.model_dump() == {
        "schema_version": 1,
        "name": "tiny",
        "licence": "MIT",
        "source": "raw",
        "source_revision": None,
        "source_sha256": dataset.source_sha256,
        "dimensions": 2,
        "layout": "pairs",
        "group_by": "layout",
        "classes": ["background", "myelin", "axon"],
        "class_colours": ["#000000", "#e69f00", "#56b4e9"],
        "images": 1,
        "groups": 1,
        "modalities": {"appearance-1": 1},
        "sizes": {"2x4": 1},
        "spacing_mm": None,
        "pixel_um": None,
        "channels": {"3": 1},
        "dtypes": {"uint8": 1},
        "class_share": {"background": 0.5, "myelin": 0.125, "axon": 0.375},
        "ignored_share": 0.0,
        "objects": None,
        "files": FileRules().model_dump(),
        "uint16_bits": 16,
        "stack": [],
        "intensity_percentiles": dict.fromkeys(
            ("p01", "p05", "p25", "p50", "p75", "p95", "p99"), row["intensity_mean"]
        ),
        "unused": [],
        "changes": [],
        "growth": None,
        "joined_groups": {},
        "manifest_sha256": dataset.manifest_sha256,
        "shards": [dataset.shards[0].model_dump()],
    }


def test_figures_of_a_large_image_do_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    image_HWC = np.random.default_rng(0).integers(0, 65536, (40, 30, 3), np.uint16)
    whole = describe_image(image_HWC)
    monkeypatch.setattr("segops.data.fingerprint._BLOCK_SAMPLES", 100)
    assert describe_image(image_HWC) == whole
    assert whole[0]["intensity_std"] == pytest.approx(image_HWC.std() / 65535)


def test_16_bit_rgb_is_kept_exactly(tmp_path: Path) -> None:
    image_HWC = np.random.default_rng(0).integers(0, 65536, (9, 7, 3), np.uint16)
    write_image(tmp_path / "raw" / "images" / "a.png", image_HWC)
    write_image(tmp_path / "raw" / "masks" / "a.png", np.eye(9, 7, dtype=np.uint8) * 255)
    _, manifest = run(tmp_path / "raw", tmp_path / "d")
    ((_, kept_HWC, _),) = read_shards(tmp_path / "d")
    np.testing.assert_array_equal(kept_HWC, image_HWC)
    assert manifest["dtype"][0] == "uint16"


def test_dsb2018_masks_merge_and_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "raw" / "stage1_train" / "i1"
    write_image(root / "images" / "i1.png", np.full((4, 4, 1), 200, np.uint8))
    for number, columns in enumerate((slice(0, 2), slice(1, 3))):
        mask_HW = np.zeros((4, 4), np.uint8)
        mask_HW[0, columns] = (255, 7)[number]
        write_image(root / "masks" / f"{number}.png", mask_HW)
    _, manifest = run(tmp_path / "raw", tmp_path / "d", layout="dsb2018")
    row = manifest.iloc[0]
    assert (row["instances"], row["foreground_fraction"], row["classes"]) == (2, 3 / 16, "0 1")
    assert row["source_mask"] == "stage1_train/i1/masks/"


def test_synthetic_tiles_are_grouped_by_field_and_their_nuclei_counted(tmp_path: Path) -> None:
    dataset, manifest = run("synthetic://nuclei?n=10&size=32&seed=1", tmp_path / "d")
    assert (dataset.images, dataset.groups, dataset.modalities) == (10, 3, {"appearance-1": 10})
    assert manifest["group_id"].value_counts().to_dict() == {"field-00000": 4, "field-00001": 4, "field-00002": 2}
    assert (manifest["instances"] >= 1).all()
    assert manifest["image_id"].is_monotonic_increasing


def test_tiles_of_a_field_are_found_from_their_edges(tmp_path: Path) -> None:
    dataset, manifest = run("synthetic://nuclei?n=12&size=128&seed=7", tmp_path / "d", group_by="fields")
    fields = manifest["image_id"].str.partition("_")[0]
    assert dataset.group_by == "fields"
    assert (manifest.groupby("group_id")["image_id"].agg(lambda ids: ids.str[:11].nunique()) == 1).all()
    assert fields.nunique() <= dataset.groups < 12


def test_a_mask_of_another_size_is_recorded_for_validate_to_judge(tmp_path: Path) -> None:
    make_pairs(tmp_path / "raw")
    write_image(tmp_path / "raw" / "masks" / "001.png", np.full((8, 9), 255, np.uint8))
    _, manifest = run(tmp_path / "raw", tmp_path / "d")
    sizes = manifest[["height", "width", "mask_height", "mask_width"]].to_numpy().tolist()
    assert sizes == [[32, 32, 32, 32], [32, 32, 8, 9], [32, 32, 32, 32]]


def strays(dataset: Dataset) -> int:
    return sum(one.pixels for one in dataset.changes if one.change.startswith("stray mask value"))


def test_a_dropped_alpha_channel_is_noted_by_file(tmp_path: Path) -> None:
    make_pairs(tmp_path / "raw", n=2)
    alpha = np.dstack([np.full((8, 9), 7, np.uint8), np.full((8, 9), 255, np.uint8)])
    write_image(tmp_path / "raw" / "images" / "001.png", alpha)
    write_image(tmp_path / "raw" / "masks" / "001.png", np.eye(8, 9, dtype=np.uint8) * 255)
    dataset, _ = run(tmp_path / "raw", tmp_path / "d")
    (change,) = dataset.changes
    assert (change.change, change.files, change.named) == (
        "alpha channel, all 255, dropped",
        1,
        {"images/001.png": 72},
    )


def test_stray_values_are_counted_where_a_rule_allows_them(tmp_path: Path) -> None:
    make_pairs(tmp_path / "raw", n=2)
    write_image(tmp_path / "raw" / "masks" / "001.png", np.array([[0, 254, 255], [1, 2, 255]], np.uint8))
    dataset, manifest = run(tmp_path / "raw", tmp_path / "near", stray_values="nearest")
    assert (strays(dataset), manifest["foreground_fraction"][1]) == (3, 0.5)
    dataset, manifest = run(tmp_path / "raw", tmp_path / "back", stray_values="background")
    assert (strays(dataset), manifest["foreground_fraction"][1]) == (3, pytest.approx(1 / 3))
    text = complaint(tmp_path / "raw", tmp_path / "stop")
    assert text.startswith("masks/001.png: value 1 in 1 pixel (and 2 other stray values) is not in ingest.mask_values")


def tiff(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array)
    return stream.getvalue()


def test_palette_and_jpeg_and_bmp_stand_side_by_side(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "images").mkdir(parents=True)
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    grey.save(raw / "images" / "a.jpg")
    grey.convert("RGB").save(raw / "images" / "b.bmp")
    (raw / "images" / "c.TIFF").write_bytes(tiff(np.arange(64, dtype=np.uint16).reshape(8, 8)))
    (raw / "images" / "d.png").write_bytes(imagecodecs.png_encode(np.full((8, 8, 4), 9, np.uint8)))
    for stem in "abcd":
        write_image(raw / "masks" / f"{stem}.png", np.eye(8, dtype=np.uint8) * 255)
    dataset, manifest = run(raw, tmp_path / "d")
    assert manifest["channels"].tolist() == [1, 3, 1, 3]
    assert dataset.dtypes == {"uint16": 1, "uint8": 3}


@pytest.mark.slow
def test_the_data_science_bowl_is_read_whole(dsb2018_zip: Path, tmp_path: Path) -> None:
    started = time.perf_counter()
    dataset, manifest = run(dsb2018_zip, tmp_path / "d", layout="dsb2018")
    assert time.perf_counter() - started < 180
    assert dataset.channels == {"3": dataset.images}
    if dataset.images == 570:
        assert dataset.modalities == {"appearance-1": 464, "appearance-2": 14, "appearance-3": 92}
        assert manifest["instances"].sum() == dataset.objects == 23_882
    else:  # the whole archive
        assert dataset.modalities == {"appearance-1": 546, "appearance-2": 16, "appearance-3": 108}
    assert (manifest[["height", "width"]].to_numpy() == manifest[["mask_height", "mask_width"]].to_numpy()).all()
    tally = InstanceTally()
    for example in read_examples(tmp_path / "d"):
        assert example.objects_HW is not None
        mask_HW, objects_HW = example.mask_HW, example.objects_HW
        tally.add(mask_HW, mask_HW, objects_HW, 2, objects_HW)
    assert (tally.means(), tally.objects) == ([1.0] * 10, dataset.objects), "a perfect prediction is perfect"


def test_all_faults_of_a_source_are_told_in_one_run(tmp_path: Path) -> None:
    raw = make_pairs(tmp_path / "raw", n=9)
    for number in range(3):
        (raw / "images" / f"00{number}.png").write_bytes(b"")
    write_image(raw / "masks" / "004.png", np.full((32, 32), 77, np.uint8))
    write_image(raw / "masks" / "005.png", np.full((32, 32), 78, np.uint8))
    table = tmp_path / "reports" / "faults.csv"
    with pytest.raises(UserError) as error:
        ingest(ingest_params(raw), dataset=tmp_path / "d", faults=table)
    assert str(error.value) == (
        f"images/000.png: the file is empty; copy it again (and 4 more of 9 images, listed above and in {table})"
    )
    empty, stray = error.value.details
    assert empty == ("  3 files: the file is empty; copy it again (images/000.png, images/001.png, images/002.png)")
    assert stray.startswith("  2 files: value 77 in 1024 pixels is not in ingest.mask_values")
    assert pd.read_csv(table)["file"].tolist() == [
        *(f"images/00{number}.png" for number in range(3)), "masks/004.png", "masks/005.png"
    ]  # fmt: skip
    assert not (tmp_path / "d").exists()
    for path in (*(raw / "images").iterdir(), *(raw / "masks").iterdir()):
        if path.stem in ("000", "001", "002", "004", "005"):
            path.unlink()
    ingest(ingest_params(raw), dataset=tmp_path / "d", faults=table)
    assert not table.exists()


def of_16_bits(raw: Path, *levels: int) -> Path:
    """Images of 16-bit samples from 0 to each level."""
    for number, level in enumerate(levels):
        ramp_HW = np.linspace(0, level, 64).round().astype(np.uint16).reshape(8, 8)
        write_image(raw / "images" / f"{number}.png", ramp_HW)
        write_image(raw / "masks" / f"{number}.png", np.eye(8, dtype=np.uint8) * 255)
    return raw


@pytest.mark.parametrize(
    ("levels", "bits"), [((200, 255), 8), ((900, 256), 10), ((4095, 100), 12), ((16000,), 14), ((65535, 9), 16)]
)
def test_the_bits_that_16_bit_samples_use_are_found_over_all_images(
    levels: tuple[int, ...], bits: int, tmp_path: Path
) -> None:
    dataset, manifest = run(of_16_bits(tmp_path / "raw", *levels), tmp_path / "d")
    assert dataset.uint16_bits == bits
    highest = [level / (2**bits - 1) for level in levels]
    assert manifest["intensity_max"].tolist() == pytest.approx(highest)
    assert manifest["intensity_mean"].tolist() == pytest.approx([value / 2 for value in highest], abs=0.01)
    white = [1 / 64 if level == 2**bits - 1 else 0 for level in levels]
    assert manifest["saturated_fraction"].tolist() == white


def test_the_bits_of_16_bit_samples_can_be_said_but_not_too_few(tmp_path: Path) -> None:
    raw = of_16_bits(tmp_path / "raw", 3000, 100)
    dataset, _ = run(raw, tmp_path / "d", uint16_bits=16)
    assert dataset.uint16_bits == 16
    text = complaint(raw, tmp_path / "e", uint16_bits=10)
    assert text == "images/0.png: holds 3000, more than the 1023 of ingest.uint16_bits 10; raise it, or set it to null"


def test_a_folder_that_can_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = make_pairs(tmp_path / "raw")
    walk = os.walk

    def refusing(folder: Path, onerror: Any, **options: Any) -> Any:  # root reads every folder
        onerror(PermissionError(13, "Permission denied", str(raw / "masks")))
        return walk(folder, onerror=onerror, **options)

    monkeypatch.setattr("os.walk", refusing)
    assert complaint(raw, tmp_path / "d").endswith("masks: can't be read (Permission denied); change its permissions")


def test_a_name_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    raw = make_pairs(tmp_path / "raw")
    (raw / "images" / "001.png").rename(os.fsdecode(os.fsencode(raw / "images") + b"/caf\xe9.png"))
    assert r"caf\xe9.png': a name that isn't UTF-8; rename it" in complaint(raw, tmp_path / "d")


def test_an_object_called_background_is_refused(tmp_path: Path) -> None:
    text = complaint(make_pairs(tmp_path / "raw"), tmp_path / "d", mask_values={255: "cell", 0: "Background "})
    assert text == (
        "ingest.mask_values: 'Background ' isn't the first class, so it would be an object and 'cell' the background; "
        "list 0: Background  first"
    )


def test_a_modality_comes_from_the_user_or_is_a_number(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for number in range(9):
        level = (30, 220, 220)[number % 3]
        image_HWC = np.full((8, 8, 3), level, np.uint8)
        image_HWC[..., 1] -= 20 * (number % 3 == 2)
        write_image(raw / "images" / f"{number}.png", image_HWC)
        write_image(raw / "masks" / f"{number}.png", np.eye(8, dtype=np.uint8) * 255)
    _, manifest = run(raw, tmp_path / "d")
    assert manifest["modality"].tolist() == ["appearance-1", "appearance-2", "appearance-3"] * 3
    _, manifest = run(raw, tmp_path / "e", modality="phase-contrast")
    assert set(manifest["modality"]) == {"phase-contrast"}


def stacks(raw: Path, planes: int = 3, **options: Any) -> np.ndarray:
    """Two files of as many slices, and their masks; return the slices of the first."""
    slices_ZHW = np.random.default_rng(0).integers(0, 99, (planes, 8, 9), np.uint8)
    masks_ZHW = np.stack([np.eye(8, 9, k=k, dtype=np.uint8) * 255 for k in range(planes)])
    for folder, array in (("images", slices_ZHW), ("masks", masks_ZHW)):
        (raw / folder).mkdir(parents=True, exist_ok=True)
        for stem in ("a", "b"):
            tifffile.imwrite(raw / folder / f"{stem}.tif", array, photometric="minisblack", **options)
    return slices_ZHW


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True, "truncate": True, "metadata": {"axes": "TYX"}},
    ],
)
def test_slices_and_frames_become_images_of_one_group(options: dict[str, Any], tmp_path: Path) -> None:
    slices_ZHW = stacks(tmp_path / "raw", **options)
    assert "TIFF of 3 pages or planes" in complaint(tmp_path / "raw", tmp_path / "d")
    dataset, manifest = run(tmp_path / "raw", tmp_path / "d", planes="split")
    assert (dataset.images, dataset.groups) == (6, 2)
    assert manifest["image_id"].tolist()[:3] == ["a_plane0000", "a_plane0001", "a_plane0002"]
    assert manifest["group_id"].tolist() == ["a"] * 3 + ["b"] * 3
    kept = {image_id: (image_HWC, mask_HW) for image_id, image_HWC, mask_HW in read_shards(tmp_path / "d")}
    for number in range(3):
        image_HWC, mask_HW = kept[f"a_plane000{number}"]
        np.testing.assert_array_equal(image_HWC[..., 0], slices_ZHW[number])
        np.testing.assert_array_equal(mask_HW, np.eye(8, 9, k=number))


def test_channels_of_a_stack_stay_together(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    stacks(raw)
    hyper_ZCHW = np.random.default_rng(1).integers(0, 99, (3, 2, 8, 9), np.uint8)
    for stem in ("a", "b"):
        tifffile.imwrite(raw / "images" / f"{stem}.tif", hyper_ZCHW, imagej=True, metadata={"axes": "ZCYX"})
    dataset, _ = run(raw, tmp_path / "d", planes="split")
    assert dataset.channels == {"2": 6}
    _, image_HWC, _ = next(iter(read_shards(tmp_path / "d")))
    np.testing.assert_array_equal(image_HWC, np.moveaxis(hyper_ZCHW[0], 0, -1))


def test_a_stack_whose_mask_has_other_planes_is_refused(tmp_path: Path) -> None:
    stacks(tmp_path / "raw")
    tifffile.imwrite(tmp_path / "raw" / "masks" / "a.tif", np.zeros((8, 9), np.uint8))
    text = complaint(tmp_path / "raw", tmp_path / "d", planes="split")
    assert text == "masks/a.tif: 1 plane, but images/a.tif has 3; each needs a mask"


WRONG = {
    "folder": ("imgs/{}.png", "labels/{}.png", 'images: "imgs", masks: "labels" in ingest would pair 4 images'),
    "suffix": ("images/{}.png", "masks/{}_mask.png", 'masks: "masks/*_mask.png" in ingest would pair 4 images'),
    "suffix beside": ("{}.png", "{}_mask.png", 'images: "*.png", masks: "*_mask.png" in ingest would pair 4 images'),
}


@pytest.mark.parametrize("kind", WRONG)
def test_files_that_do_not_pair_get_the_globs_that_would(kind: str, tmp_path: Path) -> None:
    images, masks, advice = WRONG[kind]
    for number in range(4):
        write_image(tmp_path / "raw" / images.format(number), np.full((8, 8), 9, np.uint8))
        write_image(tmp_path / "raw" / masks.format(number), np.eye(8, dtype=np.uint8) * 255)
    assert complaint(tmp_path / "raw", tmp_path / "d").endswith(advice)


def test_swapped_folders_are_told(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for number in range(4):
        noise_HW = np.random.default_rng(number).integers(0, 255, (16, 16), np.uint8)
        write_image(raw / "masks" / f"{number}.png", noise_HW)
        write_image(raw / "images" / f"{number}.png", np.eye(16, dtype=np.uint8) * 255)
    text = complaint(raw, tmp_path / "d")
    assert text.endswith("the images look like masks: ingest.images and ingest.masks may be swapped")


def test_a_file_of_one_plane_is_read_once_where_planes_are_split(tmp_path: Path) -> None:
    make_pairs(tmp_path / "raw", n=2)
    rgba = np.dstack([np.full((32, 32), 7, np.uint8)] * 3 + [np.full((32, 32), 255, np.uint8)])
    write_image(tmp_path / "raw" / "images" / "001.png", rgba)
    for params in ({}, {"planes": "split"}):
        dataset, _ = run(tmp_path / "raw", tmp_path / "d", **params)
        (change,) = dataset.changes
        assert (change.files, change.pixels) == (1, 32 * 32)
