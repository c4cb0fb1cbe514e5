"""From a source to scores with shards and pixels in buckets: every figure and weight is that of a run from files."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from segops.data import pixel_store, shard_store
from segops.data.stored_bytes import CACHE_GIB
from segops.files import GIB
from segops.params.evaluate import EvaluateParams
from segops.params.runtime import RuntimeParams
from segops.params.split import SplitParams
from segops.params.tracking import TrackingParams
from segops.params.validate import ValidateParams
from segops.stages.evaluate import evaluate
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.split import split
from segops.stages.train import train
from segops.stages.validate import validate
from tests.support.factories import ingest_params
from tests.support.mlflow_server import AWAY
from tests.support.remote_servers import s3_server, use_aws
from tests.training.test_train import UNET, candidate

SOURCE = {"source": "synthetic://nuclei?n=48&size=64&seed=3", "images": "images", "masks": "masks"}
EQUAL = {
    "dataset": ["dataset.json", "manifest.parquet"],
    "prepared": ["prepared.json", "index.parquet"],
    "model": ["weights.safetensors", "model.json", "history.csv"],
    "scores": ["metrics.json", "scores.json", "per_image.csv", "gallery.html"],
    "report": ["report.json", "report.html"],
}


def run(root: Path, resize: str) -> Path:
    """Run the stages in a folder; the candidate takes whole images, or patches of them."""
    params = candidate(UNET)
    params = params.model_copy(update={"input": params.input.model_copy(update={"resize": resize})})
    runtime, tracking = RuntimeParams(threads=1, device="cpu"), TrackingParams(patience_s=0)
    ingest(ingest_params(**SOURCE, shard_mib=1), dataset=root / "dataset")
    validate(ValidateParams(), dataset=root / "dataset", report=root / "report")
    split(SplitParams(), dataset=root / "dataset", report=root / "report", split=root / "split")
    prepare(dataset=root / "dataset", split=root / "split", prepared=root / "prepared")
    train("small", params, runtime, tracking, prepared=root / "prepared", model=root / "model")
    given = {"prepared": root / "prepared", "model": root / "model"}
    evaluate(EvaluateParams(gallery_images=2), runtime, **given, report=root / "scores")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["stretch", "none"])
def test_a_graph_on_buckets_leaves_what_a_graph_on_files_leaves(
    resize: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segops.stages.ingest.MIB", 2**16)  # so that shards are many
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "local"))
    local = run(tmp_path / "local", resize)
    with s3_server() as endpoint:
        use_aws(monkeypatch, endpoint)
        boto3.client("s3").create_bucket(Bucket="data")
        monkeypatch.setenv(shard_store.PLACE, "s3://data/shards")
        monkeypatch.setenv(pixel_store.PLACE, "s3://data/pixels")
        monkeypatch.setenv(CACHE_GIB, str((local / "prepared/images.bin").stat().st_size / 4 / GIB))
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / "stored"))
        stored = run(tmp_path / "stored", resize)
    assert not [*stored.glob("dataset/shards"), *stored.glob("prepared/*.bin")]
    for folder, names in EQUAL.items():
        for name in names:
            assert (stored / folder / name).read_bytes() == (local / folder / name).read_bytes(), name
