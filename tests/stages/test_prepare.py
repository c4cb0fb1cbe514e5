import hashlib
import pickle
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segops.contracts.prepared import Prepared
from segops.contracts.split import Split
from segops.contracts.tables import INDEX_COLUMNS, SPLIT_COLUMNS, read_table, write_table
from segops.data.arrays import PreparedData
from segops.data.images import FULL_SCALE
from segops.data.manifest import assignment_sha256
from segops.data.shards import read_shards
from segops.errors import OneLineError, UserError
from segops.files import sha256_file
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from tests.support.factories import ingest_params, make_pairs, tiny_dataset, tiny_prepared, tiny_split, write_image

RNG = np.random.default_rng(0)
SHAPES = [((3, 5, 1), "uint8"), ((4, 2, 3), "uint16"), ((5, 5, 3), "uint8"), ((1, 7, 1), "uint16")]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A dataset of odd sizes, grey and RGB, 8 and 16 bit, with its split under `tmp_path`."""
    for i, (shape, dtype) in enumerate(SHAPES):
        write_image(tmp_path / "raw" / "images" / f"{i}.png", RNG.integers(0, int(FULL_SCALE[dtype]) + 1, shape, dtype))
        write_image(tmp_path / "raw" / "masks" / f"{i}.png", RNG.choice([0, 255], shape[:2]).astype(np.uint8))
    ingest(ingest_params(tmp_path / "raw"), dataset=tmp_path / "dataset")
    tiny_split(tmp_path / "dataset", tmp_path / "split")
    return tmp_path / "dataset"


@pytest.fixture
def prepared(mixed: Path, tmp_path: Path) -> Path:
    prepare(dataset=mixed, split=tmp_path / "split", prepared=tmp_path / "prepared")
    return tmp_path / "prepared"


def test_prepared_pixels_equal_the_shards_at_native_size(mixed: Path, prepared: Path) -> None:
    data = PreparedData.open(prepared)
    rows = {image_id: row for row, image_id in enumerate(data.index["image_id"])}
    assert len(data) == len(rows) == 4
    for image_id, image_HWC, mask_HW in read_shards(mixed):
        row = rows[image_id]
        assert data.image(row).dtype == image_HWC.dtype
        np.testing.assert_array_equal(data.image(row), image_HWC)
        np.testing.assert_array_equal(data.mask(row), mask_HW)
        assert not data.image(row).flags.writeable
        assert data.image(row).flags.aligned


def test_the_files_are_the_arrays_one_after_another(mixed: Path, prepared: Path) -> None:
    index = read_table(prepared / "index.parquet", INDEX_COLUMNS)
    # of 15, 48, 75 and 14 bytes, each up to a multiple of 8
    assert index["image_offset"].tolist() == [0, 16, 64, 144]
    assert index["mask_offset"].tolist() == [0, 16, 24, 56]
    assert (prepared / "images.bin").stat().st_size == 160
    assert (prepared / "masks.bin").stat().st_size == 64


def test_prepared_json_carries_the_hashes_of_what_it_stands_on(mixed: Path, prepared: Path, tmp_path: Path) -> None:
    meta = Prepared.load(prepared)
    manifest = pd.read_parquet(mixed / "manifest.parquet").sort_values("image_id")
    for name in ("image", "mask"):
        lines = "".join(f"{sha256}\n" for sha256 in manifest[f"{name}_sha256"])
        assert getattr(meta, f"{name}s_sha256") == hashlib.sha256(lines.encode()).hexdigest()
    assert meta.manifest_sha256 == hashlib.sha256((mixed / "manifest.parquet").read_bytes()).hexdigest()
    assert (meta.images, meta.classes, meta.source) == (4, ["background", "foreground"], "raw")
    assert {path.name for path in prepared.iterdir()} == {
        "images.bin", "masks.bin", "index.parquet", "prepared.json", "run.json",
    }  # fmt: skip


def test_the_same_input_gives_the_same_bytes(mixed: Path, prepared: Path, tmp_path: Path) -> None:
    prepare(dataset=mixed, split=tmp_path / "split", prepared=tmp_path / "again")
    for name in ("images.bin", "masks.bin", "index.parquet", "prepared.json"):
        assert (tmp_path / "again" / name).read_bytes() == (prepared / name).read_bytes()


def test_rows_of_a_subset_are_those_of_the_split(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path, n=16)
    split = tiny_split(dataset, tmp_path / "split")
    prepare(dataset=dataset, split=split, prepared=tmp_path / "prepared")
    data = PreparedData.open(tmp_path / "prepared")
    assert data.rows("train") == [0, 1, 2, 3, 12, 13, 14, 15]
    assert data.rows("val") == [4, 5, 6, 7]
    assert data.rows("test") == [8, 9, 10, 11]
    sides = read_table(split / "split.parquet", SPLIT_COLUMNS)
    pd.testing.assert_frame_equal(data.index[list(SPLIT_COLUMNS)], sides)
    with pytest.raises(ValueError, match="no subset 'valid'"):
        data.rows("valid")  # type: ignore[arg-type]


def test_a_worker_gets_the_folder_and_not_the_pixels(prepared: Path) -> None:
    data = PreparedData.open(prepared)
    pickled = pickle.dumps(data)
    assert len(pickled) < 500
    np.testing.assert_array_equal(pickle.loads(pickled).image(2), data.image(2))


@pytest.mark.parametrize("name", ["images.bin", "masks.bin"])
def test_a_truncated_or_missing_file_of_pixels_is_an_error_that_names_it(name: str, prepared: Path) -> None:
    path = prepared / name
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{name}: {size - 1} bytes, its index needs {size}"):
        PreparedData.open(prepared)
    path.unlink()
    with pytest.raises(UserError, match=rf"{name}: no such file; run prepare again"):
        PreparedData.open(prepared)


def test_an_index_of_other_data_is_an_error(prepared: Path) -> None:
    index = read_table(prepared / "index.parquet", INDEX_COLUMNS)
    write_table(index[:3], prepared / "index.parquet", INDEX_COLUMNS)
    with pytest.raises(UserError, match=r"index.parquet: differs from what prepared.json describes; run `segops prep"):
        PreparedData.open(prepared)


def test_an_index_with_a_group_on_two_sides_is_refused_whatever_its_hash(tmp_path: Path) -> None:
    prepared = tiny_prepared(tmp_path, n=16)
    index = read_table(prepared / "index.parquet", INDEX_COLUMNS)
    index.loc[0, "subset"], index.loc[0, "fold"] = "test", -1
    write_table(index, prepared / "index.parquet", INDEX_COLUMNS)
    changed = {"index_sha256": sha256_file(prepared / "index.parquet")}
    Prepared.load(prepared).model_copy(update=changed).save(prepared)
    with pytest.raises(
        UserError, match=r"index.parquet: groups on two sides of a grouped split: .+; run `segops split"
    ):
        PreparedData.open(prepared)


@pytest.mark.parametrize("name", ["images.bin", "masks.bin"])
def test_a_changed_pixel_is_found_once_a_training(name: str, prepared: Path) -> None:
    data = PreparedData.open(prepared)
    data.verify_pixels()
    content = bytearray((prepared / name).read_bytes())
    content[0] ^= 1
    (prepared / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: differs from what prepared.json describes; run `segops prepare`"):
        PreparedData.open(prepared).verify_pixels()


def refused(dataset: Path, split: Path) -> str:
    target = dataset.parent / "prepared"
    with pytest.raises(OneLineError) as error:
        prepare(dataset=dataset, split=split, prepared=target)
    assert not target.exists()
    assert not target.with_name(".prepared.partial").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_needs_more_space_than_there_is_is_refused_before_it_is_decoded(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage._replace(free=10))
    monkeypatch.setattr("segops.stages.prepare._decode", lambda *_: pytest.fail("decoded"))
    assert re.search(r"prepared: it needs [\d.]+ \w+ \(.*, 10 bytes left of", refused(mixed, tmp_path / "split"))


def test_a_split_of_another_dataset_is_refused(mixed: Path, tmp_path: Path) -> None:
    make_pairs(tmp_path / "other_raw", n=4)
    ingest(ingest_params(tmp_path / "other_raw"), dataset=tmp_path / "other")
    assert "made for another dataset" in refused(tmp_path / "other", tmp_path / "split")


def test_a_split_that_lacks_an_image_is_refused(mixed: Path, tmp_path: Path) -> None:
    sides = read_table(tmp_path / "split" / "split.parquet", SPLIT_COLUMNS)
    write_table(sides[:3], tmp_path / "split" / "split.parquet", SPLIT_COLUMNS)
    assert "split.parquet: differs from what split.json describes" in refused(mixed, tmp_path / "split")


@pytest.mark.parametrize("hashed", [False, True])
def test_a_leak_written_into_the_split_is_refused(hashed: bool, tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path, n=16)
    split = tiny_split(dataset, tmp_path / "split")
    sides = read_table(split / "split.parquet", SPLIT_COLUMNS)
    sides.loc[0, "subset"], sides.loc[0, "fold"] = "test", -1  # one of four images of a training group
    write_table(sides, split / "split.parquet", SPLIT_COLUMNS)
    if hashed:
        Split.load(split).model_copy(update={"assignment_sha256": assignment_sha256(sides)}).save(split)
    expected = "groups on two sides of a grouped split" if hashed else "differs from what split.json describes"
    assert f"split.parquet: {expected}" in refused(dataset, split)


def test_a_whole_group_moved_in_the_split_is_refused_whatever_its_hash(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path, n=16)
    split = tiny_split(dataset, tmp_path / "split")
    sides = read_table(split / "split.parquet", SPLIT_COLUMNS)
    group = sides["group_id"] == sides["group_id"][0]
    sides.loc[group, "subset"], sides.loc[group, "fold"] = "test", -1
    write_table(sides, split / "split.parquet", SPLIT_COLUMNS)
    Split.load(split).model_copy(update={"assignment_sha256": assignment_sha256(sides)}).save(split)
    assert "is not what split.json describes" in refused(dataset, split)


def test_a_changed_manifest_is_refused(mixed: Path, tmp_path: Path) -> None:
    with (mixed / "manifest.parquet").open("ab") as file:
        file.write(b"PAR1")
    assert "manifest.parquet" in refused(mixed, tmp_path / "split")


def test_pixels_that_differ_from_the_manifest_are_refused(mixed: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "raw" / "images" / "2.png", np.zeros((5, 5, 3), np.uint8))
    ingest(ingest_params(tmp_path / "raw"), dataset=tmp_path / "other")
    shard = "shards/shard-00000.tar"
    (mixed / shard).write_bytes((tmp_path / "other" / shard).read_bytes())
    assert f"{shard}: '2' differs from its hash in the manifest" in refused(mixed, tmp_path / "split")


def test_a_shard_that_lacks_images_is_refused(mixed: Path, tmp_path: Path) -> None:
    shard = mixed / "shards" / "shard-00000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[: content.index(b"3.image.png")] + bytes(1024))
    assert "holds no '3' (1 missing)" in refused(mixed, tmp_path / "split")


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    make_pairs(tmp_path / "raw", n=4)
    write_image(tmp_path / "raw" / "masks" / "001.png", np.full((8, 9), 255, np.uint8))
    ingest(ingest_params(tmp_path / "raw"), dataset=tmp_path / "dataset")
    split = tiny_split(tmp_path / "dataset", tmp_path / "split")
    text = refused(tmp_path / "dataset", split)
    assert text == "masks/001.png: the mask has 8x9 pixels, its image 32x32; correct the file and run ingest again"


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    peaks: dict[str, list[int]] = {"ingest": [], "prepare": []}
    for n in (4, 6, 48):  # the first pays for imports
        folder = tmp_path / str(n)
        make_pairs(folder / "raw", n=n, size=256)
        tracemalloc.start()
        ingest(ingest_params(folder / "raw"), dataset=folder / "dataset")
        peaks["ingest"].append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        tiny_split(folder / "dataset", folder / "split")
        tracemalloc.start()
        prepare(dataset=folder / "dataset", split=folder / "split", prepared=folder / "prepared")
        peaks["prepare"].append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    pixels = (48 - 6) * 2 * 256 * 256
    for _, few, many in peaks.values():
        assert many - few < pixels / 8


def test_prepare_needs_the_stages_before_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset.json: no such file; run the stage that writes it first"):
        prepare(dataset=tmp_path / "dataset", split=tmp_path / "split", prepared=tmp_path / "prepared")
