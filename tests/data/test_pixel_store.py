"""Prepared pixels in a bucket: the same images, the same training, and no more of them on the disk than is allowed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segops.contracts.prepared import Prepared
from segops.data.arrays import PreparedData
from segops.data.parallel import Part
from segops.data.pixel_cache import PixelCache
from segops.data.pixel_store import OBJECT_BYTES, PLACE, StoreWriter
from segops.data.stored_bytes import CACHE_GIB
from segops.errors import UserError
from segops.files import GIB
from segops.params.split import SplitParams
from segops.params.validate import ValidateParams
from segops.stages.ingest import ingest
from segops.stages.prepare import join_prepared, prepare, prepare_part
from segops.stages.split import split
from segops.stages.validate import validate
from segops.training.batches.subsets import open_subsets
from segops.training.epoch import train_step
from segops.training.loop import Fitted, finished, fit
from segops.training.process import make_fabric
from tests.support.factories import ingest_params
from tests.support.remote_servers import s3_server, use_aws
from tests.training.test_train import UNET, candidate, same

CPU = torch.device("cpu")
PATCHES = candidate(UNET, epochs=3).model_copy(
    update={"input": candidate(UNET).input.model_copy(update={"resize": "none"})}
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dataset")
    ingest(
        ingest_params(source="synthetic://nuclei?n=40&size=64&seed=3", images="images", masks="masks"),
        dataset=root / "dataset",
    )
    validate(ValidateParams(min_images=2), dataset=root / "dataset", report=root / "report")
    split(SplitParams(), dataset=root / "dataset", report=root / "report", split=root / "split")
    return root


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    use_aws(monkeypatch, server)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    name = f"pixels-{tmp_path.name.replace('_', '-').lower()}"[:60]
    boto3.client("s3").create_bucket(Bucket=name)
    monkeypatch.setenv(PLACE, f"s3://{name}/prepared")
    monkeypatch.setattr("segops.data.pixel_store.OBJECT_BYTES", 100_000)  # so that arrays lie in two objects
    return name


def prepared(dataset: Path, folder: Path) -> PreparedData:
    prepare(dataset=dataset / "dataset", split=dataset / "split", prepared=folder)
    return PreparedData.open(folder)


def trained(data: PreparedData, root: Path) -> Fitted:
    fabric = make_fabric(CPU, 1, "fp32")
    opened = open_subsets(data, PATCHES, root / "cache", device=CPU)
    fit(fabric, "tiny", PATCHES, opened, classes=2, checkpoints=root / "state", on_epoch=lambda _: None)
    fitted = finished(root / "state")
    assert fitted is not None
    return fitted


@pytest.mark.slow
def test_a_training_streams_ten_times_its_cache_and_goes_on_in_equal_bits(
    dataset: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PLACE)
    local = prepared(dataset, tmp_path / "local")
    whole = trained(local, tmp_path / "a")
    monkeypatch.setenv(PLACE, f"s3://{bucket}/prepared")
    size = sum((tmp_path / "local" / name).stat().st_size for name in ("images.bin", "masks.bin"))
    monkeypatch.setenv(CACHE_GIB, str(size / 10 / GIB))
    stored = prepared(dataset, tmp_path / "stored")
    assert not list((tmp_path / "stored").glob("*.bin"))
    steps = 0
    real = train_step

    def ended(*given: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 7:
            signal.raise_signal(signal.SIGTERM)
        return real(*given)

    monkeypatch.setattr("segops.training.epoch.train_step", ended)
    with pytest.raises(SystemExit):
        trained(stored, tmp_path / "b")
    resumed = trained(PreparedData.open(tmp_path / "stored"), tmp_path / "b")
    assert same(whole.weights, resumed.weights)
    assert whole.history == resumed.history
    kept = sum(path.stat().st_size for path in (tmp_path / ".segops/pixels").rglob("*") if path.is_file())
    assert 0 < kept <= 3 * size / 10  # images, masks and objects have a cache each


def test_prepared_json_says_the_same_of_pixels_in_a_bucket(
    dataset: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = prepared(dataset, tmp_path / "stored")
    monkeypatch.delenv(PLACE)
    local = prepared(dataset, tmp_path / "local")
    assert Prepared.load(tmp_path / "stored") == Prepared.load(tmp_path / "local")
    for row in range(len(local)):
        np.testing.assert_array_equal(stored.image(row), local.image(row))
        np.testing.assert_array_equal(stored.mask(row), local.mask(row))
    monkeypatch.setenv(PLACE, f"s3://{bucket}/prepared")
    folders: Any = {"dataset": dataset / "dataset", "split": dataset / "split"}
    parts = [tmp_path / "part0", tmp_path / "part1"]
    for number, part in enumerate(parts):
        prepare_part(**folders, folder=part, part=Part(number, 2))
    join_prepared(**folders, parts=parts, prepared=tmp_path / "joined")
    for name in ("pixels.json", "index.parquet", "prepared.json"):
        assert (tmp_path / "joined" / name).read_bytes() == (tmp_path / "stored" / name).read_bytes()
    assert not list(tmp_path.glob("part?/*.bin")), "joining moves no pixel"
    listed = boto3.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    assert len([entry for entry in listed if "images.bin" in entry["Key"]]) > 2


def test_a_changed_object_is_refused_where_it_is_read(
    dataset: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(dataset, tmp_path / "stored")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))  # with nothing in its cache
    stored = PreparedData.open(tmp_path / "stored")
    client = boto3.client("s3")
    key = next(
        e["Key"] for e in client.list_objects_v2(Bucket=bucket)["Contents"] if "images.bin.00000.00001" in e["Key"]
    )
    content = bytearray(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    content[len(content) // 2] ^= 1
    client.put_object(Bucket=bucket, Key=key, Body=bytes(content))
    with pytest.raises(
        UserError, match=r"images\.bin\.00000\.0000\d: isn't what was put there; run `segops prepare` again"
    ):
        for row in range(len(stored)):
            stored.image(row)


def test_a_spoilt_file_of_the_cache_is_fetched_again(dataset: Path, bucket: str, tmp_path: Path) -> None:
    stored = prepared(dataset, tmp_path / "stored")
    before = stored.image(0).copy()
    for path in (tmp_path / ".segops/pixels").rglob("*"):
        if path.is_file():
            path.write_bytes(b"spoilt")
    np.testing.assert_array_equal(PreparedData.open(tmp_path / "stored").image(0), before)


@pytest.mark.parametrize("uri", ["/data/pixels", "s3://", "http://bucket/x"])
def test_a_place_that_is_no_bucket_is_refused(
    uri: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLACE, uri)
    with pytest.raises(UserError, match=f"{PLACE} is {uri}; write s3://bucket/prefix"):
        prepared(dataset, tmp_path / "stored")
    assert not (tmp_path / "stored").exists()


def test_a_cache_removes_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path / "cache", 100)
    for begin in (0, 1, 2):
        cache.put(begin, bytes(30))
    assert cache.get(0) == bytes(30)
    cache.put(3, bytes(40))  # 0 was used after 1
    assert [begin in cache for begin in range(4)] == [True, False, True, True]
    cache.put(4, bytes(101))
    assert 4 not in cache
    assert PixelCache(tmp_path / "cache", 100).size_bytes == cache.size_bytes == 100


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60)), max_size=70))
def test_a_cache_knows_what_its_files_take_and_never_takes_more(added: list[tuple[int, int]]) -> None:
    """Arrays come again, larger or smaller; after 64 of them the folder is listed anew."""
    with TemporaryDirectory() as folder:
        cache = PixelCache(Path(folder), 100)
        for begin, size in added:
            cache.put(begin, bytes(size))
            assert cache.get(begin) == bytes(size)
            assert cache.size_bytes == sum(path.stat().st_size for path in Path(folder).iterdir()) <= 100


def test_an_object_is_a_quarter_of_a_gib_at_most(bucket: str) -> None:
    assert OBJECT_BYTES == GIB // 4
    assert StoreWriter(f"s3://{bucket}", "name", 0)
