"""What names the state of a source: it changes with the content, and only then."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from segops.commands.states import batch_key, ingest_key
from segops.data.sources.states import source_state
from segops.errors import TryAgainError, UserError
from segops.params.batch import BatchParams
from segops.params.ingest import IngestParams
from segops.params.tracking import TrackingParams
from segops.tracking import store
from tests.support.remote_servers import Served, http_server, put_objects, s3_server, use_aws

SHA256 = "a" * 64


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as url:
        yield url


def state(uri: str, sha256: str | None = None) -> str:
    return source_state(uri, param="ingest.source", sha256=sha256)


def test_an_object_and_a_prefix_in_s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_aws(monkeypatch, endpoint)
    put_objects(endpoint, "raw", {"a.zip": b"one", "set/images/1.png": b"1", "set/masks/1.png": b"2"})
    archive, folder = state("s3://raw/a.zip"), state("s3://raw/set")
    assert archive == "revision f97c5d29941bfb1b2fdab0874906ab82"  # MD5 of b"one"
    assert (state("s3://raw/a.zip"), state("s3://raw/set/")) == (archive, folder)
    put_objects(endpoint, "raw", {"a.zip": b"two", "set/masks/2.png": b"2"})
    assert state("s3://raw/a.zip") != archive
    assert state("s3://raw/set") != folder
    with pytest.raises(UserError, match=r"s3://raw/none\.zip: there is no such object"):
        state("s3://raw/none.zip")


def test_a_file_behind_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = Served(b"content", etag='"one"')
    with http_server(served) as url:
        assert state(f"{url}/a.zip") == 'version "one" 7'
        served.etag = '"two"'
        assert state(f"{url}/a.zip") == 'version "two" 7'
        assert state(f"{url}/a.zip", SHA256) == f"sha256 {SHA256}"
    assert len(served.asked) == 2  # a hash pins it


def test_a_local_file_and_what_is_unknown(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"one")
    first = state(str(archive))
    assert state(str(archive)) == first
    archive.write_bytes(b"longer")
    assert state(str(archive)) != first
    assert state("synthetic://nuclei?n=3") == "synthetic://nuclei?n=3"
    with pytest.raises(UserError, match=r"unknown kind of source 's4://'; did you mean 's3://'"):
        state("s4://raw/a.zip")


def test_ingests_key_holds_its_base(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    alone = IngestParams(source="synthetic://nuclei?n=3")
    params = alone.model_copy(update={"base": str(tmp_path / "base")})
    keys = {ingest_key(alone), ingest_key(params)}
    (tmp_path / "base" / "dataset.json").write_text("{}")
    assert len({*keys, ingest_key(params)}) == 3


def test_a_batchs_key_holds_the_version_that_the_alias_stands_for(tmp_path: Path) -> None:
    from segops.tracking import registry, store

    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("1.png", io.BytesIO(b"x").getvalue())
    params, tracking = BatchParams(source=str(tmp_path / "images.zip")), TrackingParams()
    with pytest.raises(UserError, match=r"has no version of 'synthetic-nuclei'"):
        batch_key(params, tracking)
    client, name = store.client(), tracking.model_name
    client.create_registered_model(name)
    for number in (1, 2):
        client.create_model_version(name, source=str(tmp_path), tags={"weights_sha256": f"{number}" * 64})
    registry.set_alias(client, name, registry.CHAMPION, 1)
    first = batch_key(params, tracking)
    assert batch_key(params, tracking) == first
    registry.set_alias(client, name, registry.CHAMPION, 2)
    second = batch_key(params, tracking)
    assert second != first
    os.utime(tmp_path / "images.zip", ns=(1, 1))
    assert batch_key(params, tracking) not in (first, second)
    with pytest.raises(UserError, match=r"^batch\.source isn't set"):
        batch_key(BatchParams(), tracking)


def test_a_batchs_key_waits_for_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    store.import_mlflow()  # its seconds would count as waiting
    params = BatchParams(source=str(tmp_path / "a.png"), model="champion")
    with pytest.raises(TryAgainError):
        batch_key(params, TrackingParams(patience_s=3))
    assert re.search(r"; waiting for it, at most [23] s$", capsys.readouterr().err, re.MULTILINE)
