"""Many images through one model: a folder, an archive, and the pipeline that does so on Kubeflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from pipelines.batch_inference_pipeline import arguments
from pipelines.compiled import compile_pipeline
from pipelines.overrides import override
from segops.commands.batch import batch, join_batch
from segops.commands.predict import PredictRequest, predict
from segops.contracts.tables import PREDICTION_COLUMNS
from segops.data.parallel import Part
from segops.errors import TryAgainError, UserError
from segops.params.batch import BatchParams
from segops.params.inference import InstanceParams
from segops.params.project import load_params
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from tests.support.factories import write_image, zip_folder
from tests.support.small_models import brightness_params, brightness_program, save_candidate

RUNTIME = RuntimeParams(threads=1, device="cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A candidate that takes bright pixels for foreground and counts its objects."""
    params = brightness_params()
    inference = params.inference.model_copy(update={"instances": InstanceParams(method="components")})
    folder = tmp_path_factory.mktemp("model")
    save_candidate(folder, brightness_program(), params.model_copy(update={"inference": inference}))
    return str(folder)


def write_new(folder: Path) -> Path:
    """Two images, one of them deeper; white squares on black, one and two of them; and a file that is no image."""
    for name, squares in (("a.png", 1), ("deeper/b.png", 2)):
        image = np.zeros((64, 64, 1), np.uint8)
        for number in range(squares):
            image[8:24, 4 + 32 * number : 20 + 32 * number] = 255
        write_image(folder / name, image)
    (folder / "notes.txt").write_text("not for the model")
    return folder


def run(model: str, source: Path | str, masks: Path, **changed: Any) -> list[Any]:
    return list(batch(BatchParams(source=str(source), model=model, **changed), RUNTIME, TrackingParams(), masks=masks))


def read(masks: Path) -> pd.DataFrame:
    return pd.read_csv(masks / "predictions.csv")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_source_becomes_masks_and_a_row_an_image(model: str, tmp_path: Path, kind: str) -> None:
    folder = write_new(tmp_path / "new")
    source = folder if kind == "folder" else zip_folder(folder, tmp_path / "new.zip")
    run(model, source, tmp_path / "masks")
    table = read(tmp_path / "masks")
    assert tuple(table.columns) == PREDICTION_COLUMNS
    assert table["image"].tolist() == table["mask"].tolist() == ["a.png", "deeper/b.png"]
    assert table["height"].tolist() == table["width"].tolist() == [64, 64]
    assert table["foreground_fraction"].tolist() == [256 / 4096, 512 / 4096]
    assert table["objects"].tolist() == [1, 2]
    assert table["confidence"].between(0.9, 1).all()
    for row in table.itertuples():
        found = np.asarray(Image.open(tmp_path / "masks" / str(row.mask)))
        assert (found > 0).mean() == row.foreground_fraction


def test_processes_and_joined_parts_write_the_files_of_one(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segops.commands.predict._AT_ONCE", 1)
    folder = write_new(tmp_path / "new")
    for name in ("bad.png", "other/bad.png"):
        write_image(folder / name, np.zeros((8, 8, 1), np.uint8))
        (folder / name).write_text("no PNG")
    run(model, folder, tmp_path / "one")
    several = RUNTIME.model_copy(update={"workers": 2})
    params = BatchParams(source=str(folder), model=model)
    batch(params, several, TrackingParams(), masks=tmp_path / "several")
    parts = [tmp_path / f"part{number}" for number in range(5)]  # more than images
    for number, part in enumerate(parts):
        batch(params, RUNTIME, TrackingParams(), masks=part, part=Part(number, len(parts)))
    join_batch(parts, params, masks=tmp_path / "joined")
    expected = contents(tmp_path / "one")
    assert len(expected) == 5
    assert contents(tmp_path / "several") == contents(tmp_path / "joined") == expected


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bad_image_has_its_reason_in_the_table_and_stops_nothing(model: str, tmp_path: Path) -> None:
    folder = write_new(tmp_path / "new")
    (folder / "bad.png").write_text("no PNG")
    done = run(model, folder, tmp_path / "masks")
    assert [bool(one.error) for one in done] == [False, True, False]
    row = read(tmp_path / "masks").set_index("image").loc["bad.png"]
    assert "bad.png" in row["error"]
    assert row.drop("error").isna().all()


def test_a_backend_that_was_never_measured_is_one_line_that_names_the_param(model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^batch\.backend onnx: .* has no backends\.json; run `segops export` for it"):
        run(model, write_new(tmp_path / "new"), tmp_path / "masks", backend="onnx")


def test_a_bucket_that_is_away_may_be_asked_again_and_is_named_by_this_steps_param(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise TryAgainError("ingest.source: s3://pictures doesn't answer")

    monkeypatch.setattr("segops.commands.batch.open_source", away)
    with pytest.raises(TryAgainError, match=r"^batch\.source: s3://pictures doesn't answer"):
        run(model, "s3://pictures", tmp_path / "masks")


def test_predict_writes_the_same_table_on_request(model: str, tmp_path: Path) -> None:
    folder = write_new(tmp_path / "new")
    run(model, folder, tmp_path / "masks")
    written = predict(
        PredictRequest(model, RUNTIME, TrackingParams(), inputs=[folder], out=tmp_path / "own", overlays=False),
        table=True,
    )
    assert written[-1] == tmp_path / "own" / "predictions.csv"
    assert written[-1].read_bytes() == (tmp_path / "masks" / "predictions.csv").read_bytes()


@pytest.mark.parametrize("case", ["missing", "hash", "empty", "bad"])
def test_a_source_that_gives_nothing_is_one_line(model: str, tmp_path: Path, case: str) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "notes.txt").write_text("no image")
    source, changed = zip_folder(folder, tmp_path / "new.zip"), {}
    if case == "missing":
        source, text = tmp_path / "none.zip", r"^batch\.source: .*none\.zip: no such file"
    elif case == "hash":
        changed, text = {"sha256": "0" * 64}, r"^batch\.sha256: new\.zip has"
    elif case == "empty":
        text = r"^batch\.source: .*new\.zip: no image found; supported are"
    else:
        (folder / "bad.png").write_text("no PNG")
        source, text = folder, r"^batch\.source: .*new: none of 1 images can be read"
    with pytest.raises(UserError, match=text) as error:
        run(model, source, tmp_path / "masks", **changed)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "masks" / "predictions.csv").exists()


def test_the_compiled_file_is_the_present_one_and_only_the_question_for_the_state_is_never_cached(root: Path) -> None:
    params = load_params(root / "params.yaml")
    text = compile_pipeline(params, "batch-inference")
    assert text == (root / "pipelines" / "segops-batch-inference.yaml").read_text()
    assert "pip install" not in text
    changed = override(params, ["batch.source=s3://bucket/new", "kubeflow.train_image=lab/train:1", "batch.model=3"])
    given = arguments(changed)
    assert yaml.safe_load(given["batch"]) == {"source": "s3://bucket/new", "model": "3"}  # what differs
    spec = next(yaml.safe_load_all(compile_pipeline(changed, "batch-inference")))
    (tasks,) = [one["dag"]["tasks"] for name, one in spec["components"].items() if name.startswith("comp-exit-handler")]
    cached = {name: task["cachingOptions"].get("enableCache", False) for name, task in tasks.items()}
    assert cached == {"batch-state": False, "predict": True}
    assert spec["deploymentSpec"]["executors"]["exec-predict"]["container"]["image"] == "lab/train:1"
    defaults = spec["root"]["inputDefinitions"]["parameters"]
    assert yaml.safe_load(defaults["batch"]["defaultValue"])["source"] == "s3://bucket/new"


@pytest.mark.slow
def test_the_pipeline_runs_here_and_gives_predicts_bytes(root: Path, model: str, tmp_path: Path) -> None:
    from pipelines.local import run_local

    folder = write_new(tmp_path / "new")
    changes = [f"batch.source={folder}", f"batch.model={model}", "kubeflow.retries=0", "runtime.device=cpu"]
    params = override(load_params(root / "params.yaml"), [*changes, "runtime.threads=1"])
    made = run_local(params, tmp_path / "out", pipeline="batch-inference")
    run(model, folder, tmp_path / "masks")
    found, expected = ({path.relative_to(one).as_posix(): path.read_bytes() for path in one.rglob("*.*")}
                       for one in (made / "predict" / "masks", tmp_path / "masks"))  # fmt: skip
    assert found == expected
    assert set(found) == {"a.png", "a.objects.png", "deeper/b.png", "deeper/b.objects.png", "predictions.csv"}
    with pytest.raises(UserError, match=r"^run-local: step batch-state failed"):
        run_local(override(params, ["batch.source=no/such"]), tmp_path / "out", pipeline="batch-inference")
