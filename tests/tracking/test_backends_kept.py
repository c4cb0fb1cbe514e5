"""A version's backends in MLflow: kept beside its weights, fetched file by file, and signed as the version is."""

from __future__ import annotations

from pathlib import Path

import pytest

from segops.contracts.backends import Backends, MeasuredBackend
from segops.errors import UserError
from segops.params.tracking import TrackingParams
from segops.tracking import signing, store
from segops.tracking.backends import fetch_backends, keep_backends
from tests.support.small_models import SOME_SHA256

pytest_plugins = ["tests.support.mlflow_stores"]


def register(tracking: TrackingParams) -> int:
    """Register a version whose logged model holds nothing yet."""
    client = store.client(tracking)
    experiment = store.experiment_id(client, tracking.experiment)
    held = client.create_logged_model(experiment, name="small")
    client.finalize_logged_model(held.model_id, "READY")
    client.create_registered_model(tracking.model_name)
    source = f"models:/{held.model_id}"
    return int(client.create_model_version(tracking.model_name, source, model_id=held.model_id).version)


def measured(folder: Path, network: bytes) -> Path:
    """A folder as `segops export` writes it."""
    folder.mkdir()
    row = MeasuredBackend(backend="torch", milliseconds=1, dice_loss=0, ap_loss=None, allowed=True, files={})
    Backends(
        candidate="small", weights_sha256=SOME_SHA256, assignment_sha256=SOME_SHA256, images=1, threads=1, device="cpu",
        max_dice_loss=0.002, max_ap_loss=0.005, backends=[row], skipped=[],
    ).save(folder)  # fmt: skip
    (folder / "network.onnx").write_bytes(network)
    return folder


def test_a_version_gives_back_what_was_kept_and_the_last_export_counts(
    tracking: TrackingParams, tmp_path: Path
) -> None:
    version = register(tracking)
    assert not fetch_backends(tracking, version, (Backends.FILE,), tmp_path / "none")
    for number, network in enumerate((b"first", b"second")):
        keep_backends(tracking, version, measured(tmp_path / f"out{number}", network))
    assert fetch_backends(tracking, version, (Backends.FILE,), tmp_path / "back")
    assert [path.name for path in (tmp_path / "back").iterdir()] == [Backends.FILE], "no more than was asked for"
    assert fetch_backends(tracking, version, ("network.onnx",), tmp_path / "back")
    assert (tmp_path / "back/network.onnx").read_bytes() == b"second"
    assert Backends.load(tmp_path / "back").candidate == "small"


def test_where_versions_are_signed_their_backends_are_too(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = signing.keygen(tmp_path / "key.pem")
    tracking = TrackingParams(version_keys=(public,))
    names = (Backends.FILE, "network.onnx")
    version = register(tracking)
    keep_backends(tracking, version, measured(tmp_path / "unsigned", b"network"))
    with pytest.raises(UserError, match=r"version 1 aren't signed by a key of tracking.version_keys; run `segops exp"):
        fetch_backends(tracking, version, names, tmp_path / "back")

    monkeypatch.setenv(signing.KEY_VARIABLE, str(tmp_path / "key.pem"))
    keep_backends(tracking, version, measured(tmp_path / "signed", b"network"))
    assert fetch_backends(tracking, version, names, tmp_path / "back")
    monkeypatch.delenv(signing.KEY_VARIABLE)
    keep_backends(tracking, version, measured(tmp_path / "other", b"another"))
    with pytest.raises(UserError, match=r"version 1: network.onnx isn't the file that was signed"):
        fetch_backends(tracking, version, names, tmp_path / "back")
