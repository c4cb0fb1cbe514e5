import io
import json
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
from segops.data.fingerprint import array_sha256, describe_image, modality
from segops.data.shards import read_shards
from segops.errors import UserError
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
    run(QUERY.uri, tmp_path / "expected")
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
    assert row == {
        "image_id": "a",
        "group_id": "a",
        "shard": "shards/shard-00000.tar",
        "modality": "fluorescence",
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
        "layout": "pairs",
        "group_by": "layout",
        "classes": ["background", "myelin", "axon"],
        "class_colours": ["#000000", "#e69f00", "#56b4e9"],
        "images": 1,
        "groups": 1,
        "modalities": {"fluorescence": 1},
        "sizes": {"2x4": 1},
        "channels": {"3": 1},
        "dtypes": {"uint8": 1},
        "class_share": {"background": 0.5, "myelin": 0.125, "axon": 0.375},
        "objects": None,
        "stack": [],
        "intensity_percentiles": dict.fromkeys(
            ("p01", "p05", "p25", "p50", "p75", "p95", "p99"), row["intensity_mean"]
        ),
        "changes": [],
        "growth": None,
        "joined_groups": {},
        "manifest_sha256": dataset.manifest_sha256,
        "shards": [dataset.shards[0].model_dump()],
    }


@pytest.mark.parametrize(
    ("spread", "median", "expected"),
    [(0.0, 0.05, "fluorescence"), (0.2, 0.05, "fluorescence"), (0.0, 0.8, "brightfield"), (0.2, 0.8, "histology")],
)
def test_the_modality_follows_background_and_colour(spread: float, median: float, expected: str) -> None:
    assert modality(spread, median) == expected


def test_figures_of_a_large_image_do_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    image_HWC = np.random.default_rng(0).integers(0, 65536, (40, 30, 3), np.uint16)
    whole = describe_image(image_HWC)
    monkeypatch.setattr("segops.data.fingerprint._BLOCK_SAMPLES", 100)
    assert describe_image(image_HWC) == whole
    assert whole["intensity_std"] == pytest.approx(image_HWC.std() / 65535)


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
    assert (dataset.images, dataset.groups, dataset.modalities) == (10, 3, {"fluorescence": 8, "histology": 2})
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
        assert dataset.modalities == {"fluorescence": 464, "histology": 92, "brightfield": 14}
        assert manifest["instances"].sum() == 23_882
    else:  # the whole archive
        assert dataset.modalities == {"fluorescence": 546, "histology": 108, "brightfield": 16}
    assert (manifest[["height", "width"]].to_numpy() == manifest[["mask_height", "mask_width"]].to_numpy()).all()
