"""Which values a search hands on, and how train takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segops.contracts.trials import TrialRecord, best, pareto_front
from segops.contracts.tuned import Gain, Tuned, TunedCandidate
from segops.errors import UserError
from segops.params.candidate import CandidateParams
from segops.params.dotted import changed
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.train import train
from segops.training import epoch
from tests.support.tiny_searches import result_of, run, tiny, trials_of, tune_params

pytestmark = pytest.mark.usefixtures("mlflow_away")


def never(*_: object) -> None:
    pytest.fail("trained again")


def checkpoints(root: Path) -> set[str]:
    return {path.name for path in (root / ".segops/checkpoints").iterdir()}


def test_a_lead_that_does_not_hold_over_seeds_is_not_taken(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segops.tuning import confirm

    trained: list[int] = []

    def unlucky(job: Any, made: list[Any]) -> float:
        trained.append(job.params.recipe.seed)
        return 0.1 if job.params.recipe.learning_rate != 0.01 else 0.9

    monkeypatch.setattr(confirm, "_trained", unlucky)
    params = tune_params(confirm_seeds=3)
    made = result_of(params, prepared)
    assert (made.trial, made.values) == (0, {})
    assert made.rejected is not None
    assert made.gain is not None
    assert made.gain.seeds == [0, 1, 2]
    assert made.gain.differences[1:] == pytest.approx([-0.8, -0.8])
    assert trained == [1, 1, 2, 2], "the trials' own seed was trained in the search"
    trials = trials_of(params, prepared)
    assert made.score == trials[0].dice
    assert checkpoints(tmp_path) == {trials[0].key}


def test_confirmation_trains_for_the_candidates_epochs_and_leaves_one_checkpoint(
    prepared: Path, tmp_path: Path
) -> None:
    params = tune_params(search={"trials": 3, "epochs": 1}, confirm_seeds=2)
    made = run(params, prepared, tmp_path).candidates["tiny"]
    assert made is not None
    assert made.gain is not None
    assert len(checkpoints(tmp_path)) == 1
    given: dict[str, Any] = {"prepared": prepared, "tuned": tmp_path / "tuned", "model": tmp_path / "model"}
    model = train("tiny", tiny(), RuntimeParams(threads=1, device="cpu"), TrackingParams(), **given)
    assert model.epochs == 2
    assert set(model.checkpoints) == checkpoints(tmp_path)


@pytest.mark.parametrize("better", ["best trial", "defaults"])
def test_the_checkpoint_of_the_better_values_under_the_candidates_own_seed_stays(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, better: str
) -> None:
    from segops.tuning import confirm

    keys: dict[tuple[str, int], str] = {}

    def chosen(job: Any, made: list[Any]) -> float:
        whose = "defaults" if job.params.recipe.learning_rate == 0.01 else "best trial"
        keys[whose, job.params.recipe.seed] = job.key
        job.checkpoints.mkdir(parents=True)
        made.append(job)
        return 0.9 if whose == better else 0.5

    monkeypatch.setattr(confirm, "_trained", chosen)
    result_of(tune_params(search={"trials": 3, "epochs": 1}, confirm_seeds=2), prepared)
    assert sorted(keys) == [("best trial", 0), ("best trial", 1), ("defaults", 0), ("defaults", 1)]
    assert checkpoints(tmp_path) == {keys[better, 0]}


def test_the_gain_is_the_mean_difference_with_its_deviation() -> None:
    gain = Gain(seeds=[0, 1, 2], best=[0.8, 0.9, 0.7], default=[0.7, 0.7, 0.7])
    assert gain.mean == pytest.approx(0.1)
    assert gain.deviation == pytest.approx(0.1)
    assert Gain(seeds=[0], best=[0.8], default=[0.7]).deviation is None


def _scored(number: int, dice: float, milliseconds: float | None) -> TrialRecord:
    return TrialRecord(number=number, slot=number, state="complete", dice=dice, milliseconds=milliseconds)


def test_of_two_objectives_the_fastest_of_the_good_ones_is_taken() -> None:
    trials = [_scored(0, 0.80, 9.0), _scored(1, 0.90, 12.0), _scored(2, 0.897, 7.0), _scored(3, 0.70, 1.0)]
    trials += [_scored(4, 0.88, 8.0), TrialRecord(number=5, slot=5, state="failed")]
    assert [one.number for one in pareto_front(trials)] == [1, 2, 3]
    assert [one.number for one in pareto_front([*trials, _scored(6, 0.6, 1.0)])] == [1, 2, 3], "as fast, and worse"
    for margin, expected in ((0.0, 1), (0.005, 2), (0.5, 2)):
        taken = best(trials, dice_margin=margin)
        assert taken is not None
        assert taken.number == expected, "never below the defaults' Dice, however fast"
    assert best(trials[5:], dice_margin=0.1) is None
    equal = best([_scored(1, 0.8, None), _scored(0, 0.8, None)], dice_margin=0)
    assert equal is not None
    assert equal.number == 0


@pytest.mark.slow
def test_two_objectives_give_a_front(prepared: Path, tmp_path: Path) -> None:
    space = {"model.base_filters": {"categorical": [2, 12]}}
    params = tune_params(space, search={"trials": 3, "epochs": 1}, objectives=["dice", "milliseconds"], sampler="nsga2")
    made = run(params, prepared, tmp_path).candidates["tiny"]
    trials = trials_of(params, prepared)
    assert made is not None
    assert made.milliseconds is not None
    assert all(one.milliseconds is not None and one.milliseconds > 0 and one.curve for one in trials)
    assert (tmp_path / "report/tiny/pareto.png").is_file()


def test_of_several_networks_the_candidates_own_is_searched(prepared: Path, tmp_path: Path) -> None:
    own = tiny(epochs=1)
    member = {"model": own.model.model_dump(), "input": {"size": 32}, "recipe": own.recipe.model_dump() | {"seed": 1}}
    pair = CandidateParams.model_validate(own.model_dump() | {"members": [member]})
    params = tune_params(search={"trials": 3}, confirm_seeds=2, seed=2)
    result = result_of(params, prepared, pair)
    assert result_of(params, prepared, own) == result, "the same search: what is beside the network isn't part of it"
    Tuned(candidates={"tiny": result}).save(tmp_path)
    given: dict[str, Any] = {"prepared": prepared, "tuned": tmp_path, "model": tmp_path / "model"}
    model = train("tiny", pair, RuntimeParams(threads=1, device="cpu"), TrackingParams(), **given)
    assert model.params == changed(pair, result.values).model_dump(mode="json")
    assert checkpoints(tmp_path) == set(model.checkpoints)
    assert len(model.checkpoints) == 2


def test_a_training_that_was_done_before_is_not_done_again(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two slots with one choice are one training."""
    params = tune_params({"model.base_filters": {"categorical": [2, 3]}}, search={"trials": 6}, sampler="random")
    real, epochs = epoch.train_epoch, []

    def counted(task: Any, state: Any, network: Any, *rest: Any) -> Any:
        epochs.append(task.params.model.base_filters)
        return real(task, state, network, *rest)

    monkeypatch.setattr("segops.training.loop.train_epoch", counted)
    result_of(params, prepared)
    trials = trials_of(params, prepared)
    assert len(trials) == 6
    assert len(epochs) == 2 * len({one.key for one in trials})
    assert len({(one.key, one.dice) for one in trials}) == len({one.key for one in trials})


def _train(prepared: Path, tuned: Path) -> None:
    given: dict[str, Any] = {"prepared": prepared, "tuned": tuned, "model": tuned / "model"}
    train("tiny", tiny(), RuntimeParams(), TrackingParams(), **given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, r"best\.yaml: no such file; run `segops tune` first"),
        ("other: {}", r"best\.yaml doesn't have candidate 'tiny'; run `segops tune` again"),
        ("tiny: {values: 3}", r"best\.yaml: not what `segops tune` writes"),
        ("tiny: [", r"best\.yaml: not a readable YAML file .*; delete it and run `segops tune` again"),
        ("- 1", r"best\.yaml: not what `segops tune` writes"),
    ],
)
def test_a_best_yaml_that_does_not_fit_is_one_line(
    text: str | None, expected: str, prepared: Path, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "best.yaml").write_text(text)
    with pytest.raises(UserError, match=expected):
        _train(prepared, tmp_path)


def test_values_that_no_longer_fit_the_candidate_are_one_line(prepared: Path, tmp_path: Path) -> None:
    found = TunedCandidate(values={"model.filters": [4, 8]}, study="s", trial=1, score=0.5, default_score=0.4)
    Tuned(candidates={"tiny": found}).save(tmp_path)
    with pytest.raises(UserError, match=r"the values of tiny don't fit its params any more; run `segops tune` again"):
        _train(prepared, tmp_path)
