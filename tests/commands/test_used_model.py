"""Which model a command uses, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from segops.commands.predict import PredictRequest, predict
from segops.commands.promote import promote
from segops.commands.used_model import used_model
from segops.contracts.usage import Reference
from segops.errors import UserError
from segops.files import sha256_file
from segops.params.promote import PromoteParams
from segops.params.runtime import RuntimeParams
from segops.tracking import store
from segops.tracking.registry import fetch_model
from tests.support.factories import make_pairs
from tests.support.judged_candidates import add_version, folders
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]


def test_a_champion_is_used_by_its_alias_and_named_with_version_and_decision(
    file_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = own_names()
    for name in ("first", "second"):
        add_version(tmp_path, tracking, name)
    runtime = RuntimeParams(threads=1, device="cpu")
    promote("2", PromoteParams(min_groups=2), runtime, tracking, confirm=lambda _: True, reason="the better one")
    images = make_pairs(tmp_path / "new", n=1) / "images"
    for model in ("champion", "2"):
        predict(PredictRequest(model, runtime, tracking, inputs=[images], out=tmp_path / "out", overlays=False))
        assert f"predict: {tracking.model_name} version 2, champion by decision 1, torch" in capsys.readouterr().err
    with used_model("1", tracking) as used:
        assert used.shown == f"{tracking.model_name} version 1, never promoted"
        assert {path.name for path in used.folder.iterdir()} == {"model.json", "weights.safetensors"}
    assert not used.folder.exists()
    with used_model(str(folders(tmp_path).models / "first"), tracking) as used:
        assert (used.shown, used.version) == (str(folders(tmp_path).models / "first"), None)
    with (
        pytest.raises(UserError, match=r"has no alias 'challenger'; its versions: 1, 2"),
        used_model("challenger", tracking),
    ):
        pass


def test_a_version_brings_its_reference_along(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    add_version(tmp_path, tracking, "first")
    expected = Reference.load(folders(tmp_path).reports / "first")
    with used_model("1", tracking, (Reference.FILE,)) as used:
        assert Reference.load(used.folder) == expected
    assert [path.name for path in fetch_model(tracking, "1", tmp_path / "plain").iterdir()].count(Reference.FILE) == 0


def test_replaced_weights_are_refused(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    for name in ("first", "second"):
        add_version(tmp_path, tracking, name)
    params, runtime = PromoteParams(min_groups=2), RuntimeParams(threads=1, device="cpu")
    promote("1", params, runtime, tracking, confirm=lambda _: True)
    for stored in tmp_path.glob("mlartifacts/**/weights.safetensors"):
        _zero(stored)
    for model in ("champion", "2"):
        with pytest.raises(UserError, match="other weights than it was registered with"), used_model(model, tracking):
            pass
    with pytest.raises(UserError, match="version 2 holds other weights"):
        promote("2", params, runtime, tracking, confirm=lambda _: True)
    for tag in ("weights_sha256", "model_sha256"):  # whoever replaces files may change tags
        store.client().delete_model_version_tag(tracking.model_name, "1", tag)
    with pytest.raises(UserError, match="other weights than decision 1 promoted"), used_model("champion", tracking):
        pass


def _zero(weights: Path) -> None:
    """Other weights, and a model.json beside them that names them."""
    tensors = {name: tensor * 0 for name, tensor in load_file(weights).items()}
    save_file(tensors, weights)
    model = weights.with_name("model.json")
    changed = json.loads(model.read_text()) | {"weights_sha256": sha256_file(weights)}
    model.write_text(json.dumps(changed))
