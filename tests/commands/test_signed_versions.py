"""A version's files are signed when it is registered, and looked at by every use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segops.commands.promote import promote
from segops.errors import TryAgainError, UserError
from segops.files import sha256_file
from segops.params.promote import PromoteParams
from segops.params.register import RegisterParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.register import register
from segops.tracking import artifacts, promoted, signing, store
from segops.tracking import model as models
from tests.support.judged_candidates import add_version, folders, write_candidate
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]

PROMOTE = PromoteParams(min_groups=2, min_subgroup_images=2)
RUNTIME = RuntimeParams(threads=1, device="cpu")


@pytest.fixture
def keyed(file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingParams:
    """Names of their own, and one key that is believed and signs."""
    public = signing.keygen(tmp_path / "steps.pem")
    monkeypatch.setenv("SEGOPS_SIGNING_KEY", str(tmp_path / "steps.pem"))
    return own_names().model_copy(update={"version_keys": (public,)})


def test_a_version_that_nobody_signed_is_refused_by_use_and_by_the_gate(keyed: TrackingParams, tmp_path: Path) -> None:
    version = add_version(tmp_path, keyed, "plain", test=[0.8] * 4)
    for use in (
        lambda: promoted.fetch(keyed, str(version), tmp_path / "used"),
        lambda: promote(str(version), PROMOTE, RUNTIME, keyed, confirm=lambda _: True),
    ):
        with pytest.raises(UserError, match=rf"version {version} isn't signed by a key of .*`segops register plain`"):
            use()


@pytest.mark.parametrize("error", [TryAgainError("the bucket is away"), UserError("the bucket refuses access")])
def test_a_signature_that_cannot_be_read_is_not_called_missing(
    keyed: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    version, fetch = add_version(tmp_path, keyed, "plain", test=[0.8] * 4), artifacts.fetch

    def failing(location: str, name: str, folder: Path) -> Path:
        if name.endswith(signing.FILE):
            raise error
        return fetch(location, name, folder)

    monkeypatch.setattr(artifacts, "fetch", failing)
    with pytest.raises(type(error), match="the bucket"):
        promoted.fetch(keyed, str(version), tmp_path / "used")


@pytest.mark.slow
def test_what_register_signed_is_used_until_a_file_or_the_key_is_another(
    keyed: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_candidate(tmp_path, "small", test=[0.8] * 4)
    places = folders(tmp_path)

    def registered() -> int:
        made = register(RegisterParams(), keyed, model=places.models / "small", report=places.reports / "small")
        assert made.version is not None
        return made.version

    version = registered()
    [seal] = tmp_path.glob("mlartifacts/**/candidate/model.sig")
    files = signing.Envelope(seal.read_text()).files
    assert {"candidate/weights.safetensors", "candidate/model.json", "candidate/metrics.json"} <= files.keys()
    assert "candidate/per_image.csv" in files
    assert any(name.endswith(".pt2") for name in files)
    assert all(sha256_file(seal.parents[1] / name) == sha256 for name, sha256 in files.items())

    monkeypatch.setattr(models, "save_model", None)  # signing again exports no program again
    assert registered() == version
    assert signing.Envelope(seal.read_text()).files == files

    promote(str(version), PROMOTE, RUNTIME, keyed, confirm=lambda _: True)
    monkeypatch.delenv("SEGOPS_SIGNING_KEY")  # who verifies needs none
    assert promoted.fetch(keyed, "champion", tmp_path / "used").version == version

    other = keyed.model_copy(update={"version_keys": (signing.keygen(tmp_path / "other.pem"),)})
    with pytest.raises(UserError, match=r"isn't signed by a key of tracking.version_keys"):
        promoted.fetch(other, "champion", tmp_path / "other")

    file = seal.parent / "model.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"threshold": told["threshold"] / 2}))
    tags = {"model_sha256": sha256_file(file)}  # as somebody would who knows of the tags
    for name, value in tags.items():
        store.client().set_model_version_tag(keyed.model_name, str(version), name, value)
    with pytest.raises(UserError, match=r"model.json isn't the file that was signed"):
        promoted.fetch(keyed, "champion", tmp_path / "again")
