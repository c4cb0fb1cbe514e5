"""k-fold cross-validation: who sees which images, what comes out of fold, and the mean of the folds' models."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from segops.commands.clean import clean
from segops.contracts.evaluation import Evaluation
from segops.contracts.model import WEIGHTS_FILE, TrainedModel
from segops.data.arrays import PreparedData
from segops.data.assignment import by_fold
from segops.errors import UserError
from segops.inference.program import EnsembleProgram
from segops.inference.trained import build_folds, load_program
from segops.params.candidate import CandidateParams
from segops.params.evaluate import EvaluateParams
from segops.params.runtime import RuntimeParams
from segops.params.split import SplitParams
from segops.params.tracking import TrackingParams
from segops.stages.evaluate import evaluate
from segops.stages.train import train
from segops.training import loop
from segops.training.trainings import mean_history
from segops.training.validation_scores import validate
from tests.support.mlflow_server import AWAY
from tests.support.small_models import small_program
from tests.support.tiny_prepared import write_prepared
from tests.training.test_train import candidate

RUNTIME = RuntimeParams(threads=1, device="cpu")
FOLDS = 5  # of write_prepared, an image a group


def params(cross_validation: str, **given: Any) -> CandidateParams:
    plain = candidate({"architecture": "unet", "base_filters": 2, "depth": 1}, epochs=2, precise_bn_images=None)
    dumped = plain.model_dump() | {"cross_validation": cross_validation}
    return CandidateParams.model_validate(dumped | {"input": {"size": 32, "normalize": "zscore_dataset", **given}})


def trained(root: Path, cross_validation: str, name: str) -> TrainedModel:
    prepared = root / "prepared"
    return train("net", params(cross_validation), RUNTIME, TrackingParams(), prepared=prepared, model=root / name)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folds")


@pytest.fixture(autouse=True)
def _away(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(shared))


@pytest.fixture
def models(shared: Path) -> dict[str, TrainedModel]:
    """The candidate without, with and as an ensemble of folds; trained once."""
    if not (shared / "prepared").exists():
        write_prepared(shared / "prepared")
        for kind in ("none", "scores", "ensemble"):
            trained(shared, kind, kind)
    return {kind: TrainedModel.load(shared / kind) for kind in ("none", "scores", "ensemble")}


def test_a_fold_is_validation_and_the_others_train(tmp_path: Path) -> None:
    data = PreparedData.open(write_prepared(tmp_path))
    seen: list[int] = []
    for fold in data.folds:
        part = data.of_fold(fold)
        assert sorted([*part.rows("train"), *part.rows("val")]) == sorted([*data.rows("train"), *data.rows("val")])
        assert all(data.fold(row) == fold for row in part.rows("val"))
        assert part.rows("test") == data.rows("test")
        assert part.meta.sha256 != data.meta.sha256
        assert pickle.loads(pickle.dumps(part)).rows("val") == part.rows("val")
        seen += part.rows("val")
    assert sorted(seen) == sorted([*data.rows("train"), *data.rows("val")])
    with pytest.raises(UserError, match="fold 7 leaves val empty"):
        data.of_fold(7)


def test_the_split_may_take_a_fold_as_validation() -> None:
    table = pd.DataFrame({"image_id": list("abcd"), "subset": ["train", "val", "test", "train"], "fold": [0, 1, -1, 1]})
    assert by_fold(table, 1)["subset"].tolist() == ["train", "val", "test", "val"]
    with pytest.raises(ValueError, match="the 5 folds are 0 to 4"):
        SplitParams(fold=5)


def test_scores_leave_the_candidate_as_it_is_and_share_the_folds_trainings(
    shared: Path, models: dict[str, TrainedModel]
) -> None:
    none, scores, ensemble = (load_file(shared / kind / WEIGHTS_FILE) for kind in ("none", "scores", "ensemble"))
    assert {name: value for name, value in scores.items() if not name.startswith("folds.")}.keys() == none.keys()
    assert all(torch.equal(scores[name], value) for name, value in none.items())
    assert all(torch.equal(scores[name], value) for name, value in ensemble.items())
    assert models["scores"].threshold == models["none"].threshold
    assert models["scores"].checkpoints == [*models["none"].checkpoints, *models["ensemble"].checkpoints]
    assert len({model.key for model in models.values()}) == 3
    assert [one.fold for one in models["ensemble"].folds] == list(range(FOLDS))
    assert models["ensemble"].parameters == FOLDS * models["none"].parameters


def test_each_fold_takes_its_statistics_from_its_own_training_images(
    shared: Path, models: dict[str, TrainedModel]
) -> None:
    data = PreparedData.open(shared / "prepared")
    for one in models["ensemble"].folds:
        rows = [row for row in range(len(data)) if data.fold(row) not in (-1, one.fold)]
        pixels = sum(int(data.image(row)[..., 0].sum()) for row in rows)
        mean = pixels / sum(data.mask(row).size for row in rows) / 255
        assert one.input_statistics is not None
        assert one.input_statistics.mean[0] == pytest.approx(mean, abs=1e-6)


def test_an_ensemble_is_the_mean_of_the_folds_models(shared: Path, models: dict[str, TrainedModel]) -> None:
    program, _ = load_program(shared / "ensemble")
    image = torch.rand(2, 3, 37, 45, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = torch.stack(
            [one(image) for one in build_folds(shared / "ensemble", TrainedModel.load(shared / "ensemble")).values()]
        ).mean(dim=0)
        torch.testing.assert_close(program(image), expected)


def test_out_of_fold_scores_are_of_every_image_outside_test(shared: Path, models: dict[str, TrainedModel]) -> None:
    made = {
        kind: evaluate(
            EvaluateParams(), RUNTIME, prepared=shared / "prepared", model=shared / kind,
            report=shared / f"report-{kind}",
        )
        for kind in ("none", "scores", "ensemble")
    }  # fmt: skip
    assert made["none"].out_of_fold is None
    for kind in ("scores", "ensemble"):
        found = made[kind].out_of_fold
        assert found is not None
        assert (found.images, made[kind].val.images, made[kind].test.images) == (14, 4, 2)
        assert found.dice.groups == found.groups
    table = pd.read_csv(shared / "report-ensemble" / "per_image.csv")
    by_subset = {name: rows.set_index("image_id")["dice"] for name, rows in table.groupby("subset")}
    assert set(by_subset) == {"val", "test", "out_of_fold"}
    # An ensemble's models have seen the validation images but one of them each time.
    pd.testing.assert_series_equal(by_subset["val"], by_subset["out_of_fold"][by_subset["val"].index])
    assert Evaluation.load(shared / "report-ensemble").val.dice == made["ensemble"].val.dice
    assert "Cross-validation" in (shared / "report-ensemble" / "gallery.html").read_text()
    assert "Cross-validation" not in (shared / "report-none" / "gallery.html").read_text()


def test_a_killed_cross_validation_goes_on_and_ends_in_the_same_bits(
    shared: Path, models: dict[str, TrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_prepared(tmp_path / "prepared")
    judged = 0

    def killed(*given: Any) -> dict[str, float]:
        nonlocal judged
        judged += 1
        if judged == 4:  # the second fold's second epoch
            raise KeyboardInterrupt
        return validate(*given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "validate", killed)
        trained(tmp_path, "ensemble", "model")
    assert not (tmp_path / "model").exists()
    assert trained(tmp_path, "ensemble", "model") == models["ensemble"]
    for name in (WEIGHTS_FILE, "history.csv"):
        assert (tmp_path / "model" / name).read_bytes() == (shared / "ensemble" / name).read_bytes()


def test_clean_keeps_every_folds_checkpoints(shared: Path, models: dict[str, TrainedModel]) -> None:
    folders = set((shared / RUNTIME.checkpoint_root).iterdir())
    assert {folder.name for folder in folders} == set(models["scores"].checkpoints)
    clean(RUNTIME, models=shared)
    assert set((shared / RUNTIME.checkpoint_root).iterdir()) == folders


def test_the_mean_history_is_over_the_trainings_that_reached_an_epoch() -> None:
    longer = [{"epoch": 1, "val_dice": 0.25}, {"epoch": 2, "val_dice": 0.5}]
    assert mean_history([longer]) == longer
    assert mean_history([longer, [{"epoch": 1, "val_dice": 0.75}]]) == [
        {"epoch": 1, "val_dice": 0.5},
        {"epoch": 2, "val_dice": 0.5},
    ]


def test_an_exported_ensemble_is_equal() -> None:
    program = EnsembleProgram([small_program(size=32), small_program(size=32, normalize="symmetric")]).eval()
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    exported = torch.export.export(program, (torch.rand(2, 3, 41, 35),), dynamic_shapes=(sizes,)).module()
    image = torch.rand(1, 3, 50, 29)
    with torch.inference_mode():
        torch.testing.assert_close(exported(image), program(image), atol=1e-6, rtol=1e-5)
