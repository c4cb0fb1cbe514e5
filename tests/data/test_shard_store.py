"""Shards in a bucket, by content: the dataset's folder is small, and each stage reads the same from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pytest

from segops.contracts.dataset import Dataset
from segops.contracts.stored_shards import STRETCHES_FILE, StoredShards
from segops.data.manifest import read_manifest
from segops.data.parallel import Part
from segops.data.shard_store import PLACE
from segops.data.shards import read_example, read_examples
from segops.data.sources.s3 import make_client
from segops.data.stored_bytes import CACHE_GIB
from segops.errors import UserError
from segops.files import GIB
from segops.params.validate import ValidateParams
from segops.stages.ingest import ingest, ingest_part, join_ingested
from segops.stages.prepare import prepare
from segops.validation.pixels import Pixels, look
from tests.support.factories import ingest_params, make_pairs, tiny_split
from tests.support.remote_servers import s3_server, use_aws

NUCLEI = ingest_params(
    source="synthetic://nuclei?n=48&size=64&seed=3", images="images", masks="masks", group_by="fields", shard_mib=1
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    use_aws(monkeypatch, server)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    name = f"shards-{tmp_path.name.replace('_', '-').lower()}"[:60]
    boto3.client("s3").create_bucket(Bucket=name)
    monkeypatch.setenv(PLACE, f"s3://{name}/data")
    monkeypatch.setattr("segops.stages.ingest.MIB", 2**16)  # so that shards are many
    return name


def objects(bucket: str) -> dict[str, tuple[int, str]]:
    """Size and time by name."""
    listed = boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    return {entry["Key"]: (entry["Size"], str(entry["LastModified"])) for entry in listed}


def looked(dataset: Path) -> Pixels:
    about, manifest = read_manifest(dataset)
    pixels = look(dataset, manifest, ValidateParams(compared_images=20), len(about.classes))
    assert pixels is not None
    return pixels


def test_every_stage_reads_from_a_bucket_what_it_reads_from_files(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients: list[int] = []

    def counted(connections: int) -> Any:
        clients.append(connections)
        return make_client(connections)

    monkeypatch.setattr("segops.data.stored_bytes.make_client", counted)
    ingest(NUCLEI, dataset=tmp_path / "stored")
    assert len(clients) == 1, "a client takes longer to make than a small shard"
    shards = Dataset.load(tmp_path / "stored").shards
    assert {path.name for path in (tmp_path / "stored").iterdir()} == {
        "dataset.json", "manifest.parquet", "run.json", "shards.json", STRETCHES_FILE,
    }  # fmt: skip
    put = objects(bucket)
    assert {key: size for key, (size, _) in put.items()} == {f"data/{s.sha256}.tar": s.size_bytes for s in shards}
    parts = [tmp_path / "part0", tmp_path / "part1"]
    for number, part in enumerate(parts):
        ingest_part(NUCLEI, folder=part, part=Part(number, 2))
    join_ingested(NUCLEI, parts=parts, dataset=tmp_path / "again", workers=2)
    assert objects(bucket) == put, "nothing is put twice"
    assert (tmp_path / "again" / STRETCHES_FILE).read_bytes() == (tmp_path / "stored" / STRETCHES_FILE).read_bytes()

    monkeypatch.delenv(PLACE)
    ingest(NUCLEI, dataset=tmp_path / "files")
    for name in ("dataset.json", "manifest.parquet"):
        assert (tmp_path / "stored" / name).read_bytes() == (tmp_path / "files" / name).read_bytes()
    size_bytes = sum(shard.size_bytes for shard in shards)
    monkeypatch.setenv(CACHE_GIB, str(size_bytes / 10 / GIB))
    stored, local = looked(tmp_path / "stored"), looked(tmp_path / "files")
    pd.testing.assert_frame_equal(stored.table, local.table)
    assert stored[1:] == local[1:]
    split = tiny_split(tmp_path / "files", tmp_path / "split")
    prepare(dataset=tmp_path / "files", split=split, prepared=tmp_path / "a")
    prepare(dataset=tmp_path / "stored", split=split, prepared=tmp_path / "b", workers=2)
    for name in ("images.bin", "masks.bin", "objects.bin", "index.parquet", "prepared.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    kept = sum(path.stat().st_size for path in (tmp_path / ".segops/pixels").rglob("*") if path.is_file())
    assert 0 < kept <= size_bytes / 5, "two processes share a cache, each counts what it knows of"


def test_an_example_is_read_alone_and_a_changed_shard_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pairs(tmp_path / "raw", n=4)
    ingest(ingest_params(tmp_path / "raw"), dataset=tmp_path / "d")
    _, manifest = read_manifest(tmp_path / "d")
    for example in read_examples(tmp_path / "d"):
        alone = read_example(tmp_path / "d", manifest["shard"][0], example.image_id)
        np.testing.assert_array_equal(alone.image_HWC, example.image_HWC)
    with pytest.raises(UserError, match="holds no 'other'"):
        read_example(tmp_path / "d", manifest["shard"][0], "other")
    ((key, (size, _)),) = objects(bucket).items()
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=bytes(size))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))  # with nothing in its cache
    about = StoredShards.load(tmp_path / "d")
    table = pd.read_parquet(tmp_path / "d" / STRETCHES_FILE)
    (tmp_path / "moved").mkdir()
    for path in (tmp_path / "d").iterdir():
        path.rename(tmp_path / "moved" / path.name)
    with pytest.raises(UserError, match=rf"s3://{bucket}/{key}: isn't what was put there; run `segops ingest` again"):
        list(read_examples(tmp_path / "moved"))
    table.iloc[:1].to_parquet(tmp_path / "moved" / STRETCHES_FILE)
    about.model_copy(update={"prefix": "other"}).save(tmp_path / "moved")
    with pytest.raises(UserError, match=r"stretches\.parquet: "):
        list(read_examples(tmp_path / "moved"))


@pytest.mark.parametrize("base", ["bucket", "files"])
def test_a_version_that_grows_moves_what_is_new(
    base: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pairs(tmp_path / "raw", n=3)
    if base == "files":
        monkeypatch.delenv(PLACE)
    ingest(ingest_params(tmp_path / "raw"), dataset=tmp_path / "v1")
    monkeypatch.setenv(PLACE, f"s3://{bucket}/data")
    before = objects(bucket)
    make_pairs(tmp_path / "raw", n=5)
    grown = ingest(ingest_params(tmp_path / "raw", base=str(tmp_path / "v1")), dataset=tmp_path / "v2")
    assert grown.growth is not None
    assert (grown.growth.images_kept, grown.growth.images_written) == (3, 2)
    assert set(objects(bucket)) == {f"data/{shard.sha256}.tar" for shard in grown.shards}
    assert before.items() <= objects(bucket).items()
    assert len(list(read_examples(tmp_path / "v2"))) == 5
    monkeypatch.delenv(PLACE)
    ingest(ingest_params(tmp_path / "raw", base=str(tmp_path / "v2")), dataset=tmp_path / "v3")
    assert all((tmp_path / "v3" / shard.file).is_file() for shard in grown.shards), "and back to files"
