"""register: a complete run and one version a set of weights, over a file store and a server alike."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from segops.commands.rebuild import register_missing
from segops.comparison.entrants import load_pair
from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.registration import Registration
from segops.errors import TryAgainError, UserError
from segops.inference.trained import load_program
from segops.params.compare import CompareParams
from segops.params.inference import CleaningParams
from segops.params.register import Floors, RegisterParams
from segops.params.tracking import TrackingParams
from segops.stages.register import missed_floor, register
from segops.tracking import registry, runs, store
from segops.tracking.live import LiveRun
from tests.support.judged_candidates import EPOCHS, add_version, folders, write_candidate, write_registration
from tests.support.mlflow_server import free_port, own_names

pytest_plugins = ["tests.support.mlflow_stores"]

COMPARE = CompareParams()
UNREACHED = RegisterParams(floors=Floors(dice=0.95, iou=0.0))


def _register(
    root: Path, tracking: TrackingParams, name: str = "small", params: RegisterParams | None = None
) -> Registration:
    places = folders(root)
    return register(params or RegisterParams(), tracking, model=places.models / name, report=places.reports / name)


def _run(tracking: TrackingParams, model: TrainedModel) -> Any:
    found = runs.find_run(store.client(), experiment=tracking.experiment, candidate=model.candidate, key=model.key)
    assert found is not None
    return found


def test_a_candidate_is_registered_once_with_a_model_that_takes_any_size(
    tracking: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_candidate(tmp_path, "small")
    made = _register(tmp_path, tracking)
    assert Registration.load(folders(tmp_path).reports / "small") == made
    assert (made.registered, made.version, made.reason) == (True, 1, None)
    assert _register(tmp_path, tracking) == made

    client = store.client()
    [version] = client.search_model_versions(f"name = '{tracking.model_name}'")
    assert version.tags["weights_sha256"] == model.weights_sha256
    assert version.tags["test_sha256"] == model.test_sha256
    run = _run(tracking, model)
    assert version.run_id == run.info.run_id
    assert len(run.outputs.model_outputs) == 1

    mlflow = store.import_mlflow()
    loaded = mlflow.pyfunc.load_model(f"models:/{tracking.model_name}/1")
    program, _ = load_program(folders(tmp_path).models / "small")
    for shape in ((1, 3, 48, 80), (2, 3, 100, 33)):
        image_BCHW = np.random.default_rng(1).random(shape, dtype=np.float32)
        with torch.inference_mode():
            expected = program(torch.from_numpy(image_BCHW)).numpy()
        np.testing.assert_allclose(loaded.predict(image_BCHW), expected, atol=1e-5)
    fetched = registry.fetch_model(tracking, "1", tmp_path / "fetched")
    assert load_program(fetched)[1] == model
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")  # MLflow's default
    _check_card(client, tracking, program, folders(tmp_path).reports / "small" / "model_card.md")
    _check_pickles_are_refused(client, tracking, tmp_path, monkeypatch)


def _check_card(client: Any, tracking: TrackingParams, program: Any, path: Path) -> None:
    """The version carries its card, and what the card says of loading works."""
    registry.set_alias(client, tracking.model_name, registry.CHAMPION, 1)
    version = client.get_model_version(tracking.model_name, "1")
    assert "test Dice 0.800 (0.700 to 0.900)" in version.description
    named = client.get_logged_model(version.source.removeprefix("models:/")).tags["mlflow.modelVersions"]
    assert [(one["name"], str(one["version"])) for one in json.loads(named)] == [(tracking.model_name, "1")]
    uri = f"models:/{tracking.model_name}/1/candidate/model_card.md"
    card = Path(store.import_mlflow().artifacts.download_artifacts(uri)).read_text(encoding="utf-8")
    assert card == path.read_text(encoding="utf-8")
    image_BCHW = np.random.default_rng(2).random((1, 3, 40, 70), dtype=np.float32)
    with torch.inference_mode():
        expected = program(torch.from_numpy(image_BCHW)).numpy()
    ways = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(ways) == 2
    for way in ways:
        names: dict[str, Any] = {"image_BCHW": image_BCHW}
        exec(way, names)
        found = names["probability_BKHW"]
        np.testing.assert_allclose(found if isinstance(found, np.ndarray) else found.detach(), expected, atol=1e-5)


def _check_pickles_are_refused(
    client: Any, tracking: TrackingParams, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write to the artifacts puts a pickle into the program: no way of the card runs it."""
    card = (folders(folder).reports / "small" / "model_card.md").read_text(encoding="utf-8")
    stored = next((path for path in folder.rglob("model.pt2") if "fetched" not in path.parts), None)
    if stored is None:
        return  # a server keeps its artifacts elsewhere
    ran, members = folder / "it-ran", {}
    with zipfile.ZipFile(stored) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (inputs,) = [name for name in members if "sample_inputs" in name]
    buffer = io.BytesIO()
    torch.save(_Touch(ran), buffer)
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (members | {inputs: buffer.getvalue()}).items():
            archive.writestr(name, content)
    for way in re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL):
        monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
        with pytest.raises(MlflowException, match="PICKLE"):
            exec(way, {"image_BCHW": np.zeros((1, 3, 40, 70), np.float32)})
        assert not ran.exists()


class _Touch:
    """What makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_run_holds_epochs_scores_dataset_table_and_pictures_once(tracking: TrackingParams, tmp_path: Path) -> None:
    model = write_candidate(tmp_path, "small", val=(0.8, 0.9), test=(0.6, 0.8))
    panel = folders(tmp_path).models / "small/panels/epoch_0002/val00.png"
    panel.parent.mkdir(parents=True)
    Image.new("RGB", (24, 8)).save(panel)
    for _ in range(2):
        assert not _register(tmp_path, tracking, params=UNREACHED).registered
    client, run = store.client(), _run(tracking, model)
    history = client.get_metric_history(run.info.run_id, "val/dice")
    assert sorted((row.step, row.value) for row in history) == [(1, 0.2), (2, 0.4), (3, pytest.approx(0.6))]
    held = run.data.metrics
    assert held["test/dice"] == pytest.approx(0.7)
    assert (held["test/dice_low"], held["test/dice_high"]) == (0.6, 0.8)
    assert held["test/dice_modality_histology"] == 0.8
    assert "test/dice_size_1_256_px" not in held  # all images are of one size
    assert held["val/native_dice"] == pytest.approx(0.85)
    assert "test/roc_auc" not in held  # there is none
    assert len(client.get_metric_history(run.info.run_id, "test/dice")) == 1
    assert run.data.params["recipe.learning_rate"] == "0.002"
    assert "recipe.l1" not in run.data.params  # the default
    assert run.info.status == "FINISHED"
    _check_tags(run.data.tags, model)
    _check_pictures(client, run.info.run_id)
    inputs = {one.dataset.name: one.dataset for one in run.inputs.dataset_inputs}
    assert set(inputs) == {"made-up", "made-up validation", "made-up test"}
    assert inputs["made-up test"].digest == model.test_sha256[:32]
    assert json.loads(inputs["made-up"].source)["sha256"] == model.source_sha256
    table = client.load_table(
        experiment_id=run.info.experiment_id, run_ids=[run.info.run_id], artifact_file="per_image.json"
    )
    assert list(table["image_id"]) == ["val00", "val01", "test00", "test01"]


def _check_tags(tags: dict[str, str], model: TrainedModel) -> None:
    expected = {
        "dataset": "made-up",
        "protocol": "grouped",
        "source_sha256": model.source_sha256,
        "manifest_sha256": model.manifest_sha256,
        "split_sha256": model.assignment_sha256,
        "test_sha256": model.test_sha256,
        "weights_sha256": model.weights_sha256,
        "engine": "cli",
    }
    assert {name: tags.get(name) for name in expected} == expected
    note = tags["mlflow.note.content"]
    assert "| test | 0.700 (0.600 to 0.800) |" in note
    assert "not registered: validation Dice 0.8500 is below the floor 0.95" in note
    assert "/artifacts/report/gallery.html)" in note


def _check_pictures(client: Any, run_id: str) -> None:
    files = {file.path.removeprefix("report/") for file in client.list_artifacts(run_id, "report")}
    assert files == {
        "gallery.html",
        "metrics.json",
        "per_image.csv",
        "reference.json",
        "curves",
        "model_card.md",
        "predictions",
    }
    pictures = [file.path for file in client.list_artifacts(run_id, "images")]
    keys = [path.removeprefix("images/").partition("+")[0] for path in pictures if path.endswith(".png")]
    assert sorted(keys) == [f"pictures~{name}" for name in ("confusion", "curves", "gradcam", "gradcam", "test")]
    for step in (0, 2):  # the last epoch's stands at step 0 too, where MLflow's page begins
        assert any(f"gradcam+step+{step}+" in path for path in pictures)


def test_several_classes_have_their_own_metrics(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    model = write_candidate(tmp_path, "small", test=(0.6, 0.8), classes=("background", "myelin", "Axon, thin"))
    _register(tmp_path, tracking, params=UNREACHED)
    held = _run(tracking, model).data.metrics
    assert held["test/dice"] == pytest.approx(0.7)
    assert held["test/class_dice_myelin"] == pytest.approx(0.8)
    assert held["test/class_dice_axon_thin"] == pytest.approx(0.6)
    assert "val/native_class_iou_axon_thin" in held
    assert "model/threshold" not in held


def test_a_new_evaluation_renews_the_run(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    model = write_candidate(tmp_path, "small", test=(0.6, 0.8))
    _register(tmp_path, tracking, params=UNREACHED)
    write_candidate(tmp_path, "small", test=(0.2, 0.4))
    _register(tmp_path, tracking, params=UNREACHED)
    client, run = store.client(), _run(tracking, model)
    assert run.data.metrics["test/dice"] == pytest.approx(0.3)
    table = client.load_table(
        experiment_id=run.info.experiment_id, run_ids=[run.info.run_id], artifact_file="per_image.json"
    )
    assert list(table["dice"]) == [0.8, 0.9, 0.2, 0.4]


def test_another_training_with_the_same_weights_has_their_version_and_leaves_its_evidence(
    file_store: Path, tmp_path: Path
) -> None:
    tracking, places = own_names(), folders(tmp_path)
    model = write_candidate(tmp_path, "small")
    first = _register(tmp_path, tracking)
    client = store.client()
    before = client.get_model_version(tracking.model_name, "1")
    key = "f" * 64  # the code changed, and not what it computes
    model.model_copy(update={"key": key}).save(places.models / "small")
    Evaluation.load(places.reports / "small").model_copy(update={"key": key}).save(places.reports / "small")
    second = _register(tmp_path, tracking)
    assert (first.version, second.version, second.key) == (1, 1, key)
    after = client.get_model_version(tracking.model_name, "1")
    assert (after.tags, after.description, after.source) == (before.tags, before.description, before.source)


def test_a_missed_floor_is_written_down_and_makes_no_version(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    write_candidate(tmp_path, "small", val=(0.4, 0.5), test=(0.9, 0.9))
    made = _register(tmp_path, tracking, params=RegisterParams(floors=Floors(dice=0.5, iou=0.1)))
    assert (made.registered, made.version) == (False, None)
    assert made.reason == "validation Dice 0.4500 is below the floor 0.5"
    assert store.client().search_model_versions(f"name = '{tracking.model_name}'") == []


@pytest.mark.parametrize(
    ("dice", "iou", "reason"),
    [
        (0.85, 0.0, None),  # reached exactly
        (0.9, 0.0, "validation Dice 0.8500 is below the floor 0.9"),
        (0.9, 0.9, "validation Dice 0.8500 is below the floor 0.9; validation IoU 0.7424 is below the floor 0.9"),
    ],
)
def test_floors_are_read_on_validation(tmp_path: Path, dice: float, iou: float, reason: str | None) -> None:
    write_candidate(tmp_path, "small", val=(0.8, 0.9), test=(0.1, 0.1))
    evaluation = Evaluation.load(folders(tmp_path).reports / "small")
    assert missed_floor(RegisterParams(floors=Floors(dice=dice, iou=iou)), evaluation) == reason


def test_training_and_register_share_a_run(tracking: TrackingParams, tmp_path: Path) -> None:
    model = write_candidate(tmp_path, "small")
    with LiveRun(
        experiment=tracking.experiment,
        candidate="small",
        key=model.key,
        params=model.params,
        tags={},
        epochs=3,
        spool=tmp_path / "s",
    ) as live:
        live.log_epoch(1, {"val_dice": 0.2})  # the server was away for the others
    before = _run(tracking, model)
    _register(tmp_path, tracking, params=UNREACHED)
    after = _run(tracking, model)
    assert after.info.run_id == before.info.run_id
    history = store.client().get_metric_history(after.info.run_id, "val/dice")
    assert sorted(row.step for row in history) == list(range(1, 1 + EPOCHS))


def test_the_run_of_kubeflows_plugin_shows_the_registered_candidates_scores(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking, client = own_names(), store.client()
    own = client.create_run(store.experiment_id(client, tracking.experiment))
    monkeypatch.setenv("SEGOPS_ENGINE", "kfp")
    monkeypatch.setenv("MLFLOW_RUN_ID", own.info.run_id)
    model = write_candidate(tmp_path, "small")
    _register(tmp_path, tracking, params=UNREACHED)
    step, shared = client.get_run(own.info.run_id), _run(tracking, model)
    assert step.data.tags["segops.candidate_run"] == shared.info.run_id
    assert step.data.metrics["test/dice"] == shared.data.metrics["test/dice"]
    assert {"test/dice_low", "val/native_dice"} <= set(step.data.metrics)
    assert "val/loss" not in step.data.metrics


def test_a_report_of_other_weights_is_refused(tmp_path: Path) -> None:
    write_candidate(tmp_path, "small")
    report = folders(tmp_path).reports / "small"
    other = Evaluation.load(report).model_copy(update={"weights_sha256": "0" * 64})
    other.save(report)
    with pytest.raises(
        UserError, match=r"metrics.json is not an evaluation of .*model.json \(weights_sha256 differs\)"
    ):
        load_pair(folders(tmp_path).models / "small", report)


def test_a_store_that_is_away_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_candidate(tmp_path, "small")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TryAgainError, match="does not answer"):
        _register(tmp_path, own_names())
    assert not (folders(tmp_path).reports / "small" / Registration.FILE).exists()


def _missing(root: Path, tracking: TrackingParams, names: list[str]) -> list[str]:
    places = folders(root)
    return register_missing(
        RegisterParams(), tracking, COMPARE, names,
        models=places.models, reports=places.reports, comparison=places.comparison,
    )  # fmt: skip


def test_what_an_empty_store_lacks_is_rebuilt_from_files_under_the_same_numbers(
    file_store: Path, tmp_path: Path
) -> None:
    tracking, places = own_names(), folders(tmp_path)
    for name, dice, version in (("better", 0.9, 2), ("weak", 0.2, None), ("worse", 0.7, 1)):
        write_candidate(tmp_path, name, val=(dice, dice))
        write_registration(tmp_path, tracking, name, version)
    names = ["better", "weak", "worse", "never registered"]
    assert _missing(tmp_path, tracking, names) == ["weak", "worse", "better"]
    made = {name: Registration.load(places.reports / name).version for name in names[:3]}
    assert made == {"better": 2, "weak": None, "worse": 1}
    tags = _run(tracking, TrainedModel.load(places.models / "better")).data.tags
    assert (tags["segops.rebuilt"], tags["git_commit"], tags["git_dirty"]) == ("true", "c0ffee", "false")
    assert (places.reports / "better" / "model_card.md").is_file()
    assert _missing(tmp_path, tracking, names) == []


def test_artifacts_that_are_gone_are_logged_again(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    add_version(tmp_path, tracking, "small")
    write_registration(tmp_path, tracking, "small", 1)
    shutil.rmtree(tmp_path / "mlartifacts")
    with pytest.raises(UserError, match=r"its artifacts are gone .* run `segops register --missing`"):
        registry.fetch_model(tracking, "1", tmp_path / "fetched")
    assert _missing(tmp_path, tracking, ["small"]) == ["small"]
    assert Registration.load(folders(tmp_path).reports / "small").version == 1
    load_program(registry.fetch_model(tracking, "1", tmp_path / "fetched"))
    store.import_mlflow().pyfunc.load_model(f"models:/{tracking.model_name}/1")


def test_the_rebuilt_store_has_its_challenger_again(file_store: Path, tmp_path: Path) -> None:
    from segops.stages.compare import compare

    tracking, places = own_names(), folders(tmp_path)
    version = add_version(tmp_path, tracking, "only")
    write_registration(tmp_path, tracking, "only", version)
    compare(COMPARE, tracking, ["only"], reports=places.reports, models=places.models, comparison=places.comparison)
    client = store.client()
    client.delete_registered_model_alias(tracking.model_name, registry.CHALLENGER)
    assert _missing(tmp_path, tracking, ["only"]) == []
    assert registry.alias(client, tracking.model_name, registry.CHALLENGER) == version


def test_weights_that_are_used_in_another_way_are_another_version(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    version = add_version(tmp_path, tracking, "small")
    model = TrainedModel.load(folders(tmp_path).models / "small")
    client = store.client()
    assert registry.find_version(client, tracking.model_name, model) == version
    changes: list[dict[str, Any]] = [
        {"threshold": 0.6},
        {"cleaning": CleaningParams(open_px=1)},
        {"params": model.params | {"inference": {}}},
    ]
    for change in changes:
        other = model.model_copy(update=change)
        assert registry.find_version(client, tracking.model_name, other) is None
