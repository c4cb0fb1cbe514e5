"""noise: how far validation Dice moves between seeds, measured once, and told to MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segops.commands.noise import noise, reseeded, seed_noise
from segops.contracts.model import TrainedModel
from segops.contracts.noise import Noise
from segops.data.arrays import PreparedData
from segops.errors import UserError
from segops.params.candidate import CandidateParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.tracking import runs, store
from segops.training.trainings import jobs_of
from tests.support.mlflow_server import own_names
from tests.support.small_models import candidate_params, save_candidate, small_program, trained_model
from tests.support.tiny_prepared import write_prepared

pytest_plugins = ["tests.support.mlflow_stores"]

RUNTIME = RuntimeParams(threads=1, device="cpu")


def test_the_floor_is_students_bound_on_the_difference_of_two_trainings() -> None:
    found = seed_noise(trained_model(), {0: 0.80, 1: 0.82, 2: 0.84})
    assert (found.seeds, found.val_dice) == ([0, 1, 2], [0.80, 0.82, 0.84])
    assert found.deviation == pytest.approx(0.02)
    assert found.floor == pytest.approx(4.3027 * 2**0.5 * 0.02, abs=1e-5)  # t of 2 degrees of freedom, 0.975
    two = seed_noise(trained_model(), {0: 0.80, 1: 0.82})
    assert two.floor == pytest.approx(12.706 * 0.02, abs=1e-5)  # the deviation of two is their difference / sqrt(2)


def test_no_two_seeds_share_a_training() -> None:
    params = candidate_params()
    assert [reseeded(params, at).recipe.seed for at in range(3)] == [0, 1, 2]
    own = params.model_dump(include={"model", "input", "recipe"})
    members = [{**own, "recipe": {**own["recipe"], "seed": seed}} for seed in (5, 2)]
    several = CandidateParams.model_validate(params.model_dump() | {"members": members})
    seeds = [[network.recipe.seed for network in reseeded(several, at).networks] for at in range(3)]
    assert seeds == [[0, 5, 2], [6, 11, 8], [12, 17, 14]]
    assert reseeded(several, 0) == several


def _trained(folder: Path, prepared: Path, **changed: Any) -> TrainedModel:
    """model.json as training with seed 0 would have named it."""
    data, params = PreparedData.open(prepared), candidate_params(size=32, channels=3)
    key = jobs_of("small", params, RUNTIME, data)[0].run_key
    return save_candidate(folder, small_program(), params, data.meta, **{"key": key, "val_dice": 0.8} | changed)


def _run_of(tracking: TrackingParams, model: TrainedModel) -> Any:
    named = {"experiment": tracking.experiment, "candidate": model.candidate, "key": model.key}
    return runs.open_run(store.client(), params={}, tags={}, **named)


def test_what_was_measured_is_kept_and_told_to_mlflow(file_store: Path, tmp_path: Path) -> None:
    tracking, prepared, report = own_names(), write_prepared(tmp_path / "prepared"), tmp_path / "report"
    model = _trained(tmp_path / "model", prepared)
    earlier = seed_noise(model, {0: 0.8, 1: 0.82, 2: 0.84})
    report.mkdir()
    earlier.save(report)

    def measure() -> Noise:
        return noise(RUNTIME, tracking, seeds=3, prepared=prepared, model=tmp_path / "model", report=report)

    with pytest.raises(UserError, match=r"MLflow has no run of 'small' .* `segops register small`, then this command"):
        measure()
    run = _run_of(tracking, model)
    assert measure() == earlier
    held = store.client().get_run(run.info.run_id).data.metrics
    assert held == {"noise/dice_deviation": earlier.deviation, "noise/dice_floor": earlier.floor}
    assert [file.path for file in store.client().list_artifacts(run.info.run_id)] == ["noise.json"]


def test_a_model_that_could_not_be_trained_here_is_refused(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    _trained(tmp_path / "model", prepared, key="0" * 64)
    with pytest.raises(UserError, match="so seeds wouldn't be all that differs; run train again"):
        noise(RUNTIME, own_names(), seeds=2, prepared=prepared, model=tmp_path / "model", report=tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_other_seeds_are_trained_as_the_candidate_was(file_store: Path, tmp_path: Path) -> None:
    from segops.stages.train import train

    tracking, prepared, report = own_names(), write_prepared(tmp_path / "prepared"), tmp_path / "report"
    recipe = {"epochs": 2, "batch_size": 4, "loss": {"name": "bce"}, "ema_decay": None, "precision": "fp32"}
    candidate = CandidateParams.model_validate(candidate_params(size=32).model_dump() | {"recipe": recipe})
    model = train("tiny", candidate, RUNTIME, tracking, prepared=prepared, model=tmp_path / "model")
    given: dict[str, Any] = {"prepared": prepared, "model": tmp_path / "model", "report": report}
    made = noise(RUNTIME, tracking, seeds=2, **given)
    # Of the noise's trainings no checkpoint is left; their epochs are in an experiment of their own.
    assert {path.name for path in (tmp_path / RUNTIME.checkpoint_root).iterdir()} == set(model.checkpoints)
    assert f"{tracking.experiment}-noise" in {one.name for one in store.client().search_experiments()}
    other = train("tiny", reseeded(candidate, 1), RUNTIME, tracking, prepared=prepared, model=tmp_path / "other")
    assert (made.seeds, made.val_dice) == ([0, 1], [model.val_dice, other.val_dice])
    assert Noise.load(report) == made
    more = noise(RUNTIME, tracking, seeds=3, **given)
    assert (more.val_dice[:2], len(more.seeds)) == (made.val_dice, 3)
