"""The tune stage on a tiny candidate: what is searched, kept and continued."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from segops.contracts.model import TrainedModel
from segops.contracts.trials import TrialRecord
from segops.contracts.tuned import Tuned
from segops.data.arrays import PreparedData
from segops.errors import UserError
from segops.params.dotted import changed
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages import tune as stage
from segops.stages.train import train
from segops.training import epoch, loop
from segops.tuning import search as worker
from segops.tuning import study as studies
from segops.tuning.storage import open_storage
from tests.support.tiny_prepared import write_prepared
from tests.support.tiny_searches import LEARNING_RATE, result_of, run, search_of, tiny, trials_of, tune_params

pytestmark = pytest.mark.usefixtures("mlflow_away")


def never(*_: object) -> None:
    pytest.fail("trained again")


def checkpoints(root: Path) -> set[str]:
    return {path.name for path in (root / ".segops/checkpoints").iterdir()}


def test_a_search_takes_the_best_validation_dice_and_train_has_its_checkpoint(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tune_params()
    made = run(params, prepared, tmp_path)
    trials = trials_of(params, prepared)
    assert [one.number for one in trials] == [0, 1, 2, 3]
    assert {one.state for one in trials} == {"complete"}
    assert trials[0].values == {"recipe.learning_rate": 0.01}
    assert all(one.dice == max(one.curve) and len(one.curve) == 2 for one in trials)

    result = made.candidates["tiny"]
    assert result is not None
    assert made.candidates["other"] is None
    top = max(trials, key=lambda one: one.dice or 0)
    assert (result.trial, result.score, result.default_score) == (top.number, top.dice, trials[0].dice)
    assert top.number > 0, "the test needs a seed that finds something better"
    assert result.values == top.values
    assert Tuned.load(tmp_path / "tuned") == made
    assert yaml.safe_load((tmp_path / "tuned/best.yaml").read_text())["other"] == {}
    assert checkpoints(tmp_path) == {top.key}, "losers leave nothing"
    derived = [path for path in (tmp_path / ".segops/cache").iterdir() if path.is_dir()]
    assert len(derived) == 1, "all trials share the resized arrays"
    written = derived[0].stat().st_mtime_ns

    monkeypatch.setattr("segops.training.loop.train_epoch", never)
    runtime = RuntimeParams(threads=1, device="cpu")
    given: dict[str, Any] = {"prepared": prepared, "tuned": tmp_path / "tuned"}
    model = train("tiny", tiny(), runtime, TrackingParams(), model=tmp_path / "model", **given)
    assert model.checkpoints == [top.key]
    assert model.tuned is not None
    assert (model.tuned.trial, model.tuned.values) == (top.number, top.values)
    assert model.params == changed(tiny(), top.values).model_dump(mode="json")
    assert TrainedModel.load(tmp_path / "model") == model
    assert derived[0].stat().st_mtime_ns == written


def test_the_report_has_a_row_a_trial_and_one_page_that_reads_offline(prepared: Path, tmp_path: Path) -> None:
    space = {**LEARNING_RATE, "model.batch_norm": {"categorical": [False, True]}}
    run(tune_params(space, search={"trials": 5}), prepared, tmp_path)
    with (tmp_path / "report/trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [0, 1, 2, 3, 4]
    assert rows[0]["model.batch_norm"] == "false"
    assert float(rows[0]["recipe.learning_rate"]) == 0.01
    page = (tmp_path / "report/index.html").read_text()
    pictures = {path.stem for path in (tmp_path / "report/tiny").iterdir()}
    assert pictures == {"history", "epochs", "importances", "slices", "parallel"}
    assert page.count('src="data:image/png;base64,') == len(pictures)
    assert "http://" not in page
    assert "https://" not in page
    assert {"stage", "trial_seconds"} <= set(json.loads((tmp_path / "report/run.json").read_text()))


def test_a_finished_search_is_not_run_again_and_gives_the_same_bytes(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tune_params(confirm_seeds=2)
    run(params, prepared, tmp_path / "one")
    monkeypatch.setattr("segops.training.loop.train_epoch", never)
    run(params, prepared, tmp_path / "again")
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    for path in files:
        if path.name != "run.json":
            assert (tmp_path / "again" / path).read_bytes() == (tmp_path / "one" / path).read_bytes(), path
    assert len(files) >= 7


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsga2"])
def test_one_seed_gives_the_same_trials_also_when_cut_off_in_between(
    sampler: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {**LEARNING_RATE, "recipe.weight_decay": {"float": [0, 0.1]}}
    params = tune_params(space, search={"trials": 9, "epochs": 1}, sampler=sampler)
    scored: list[float] = []

    def instead(job: Any, on_epoch: Any, before_training: Any) -> loop.Fitted:
        """A score that follows from the values, so that nine trials cost nothing."""
        recipe = job.params.recipe
        dice = 1 / (1 + abs(recipe.learning_rate - 0.03) + recipe.weight_decay)
        scored.append(dice)
        if stop_after is not None and len(scored) > stop_after:
            raise KeyboardInterrupt
        on_epoch(1, dice)
        return loop.Fitted({}, [{"val_dice": dice}], 1, None)

    monkeypatch.setattr(worker, "fitted", instead)
    found = []
    for name, stop_after in (("whole", None), ("cut", 5)):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / name))
        scored.clear()
        if stop_after is not None:
            with pytest.raises(KeyboardInterrupt):
                result_of(params, prepared)
            assert [one.state for one in trials_of(params, prepared)].count("waiting") == 4
            stop_after = None
        result_of(params, prepared)
        found.append([(one.number, one.state, one.values, one.dice) for one in trials_of(params, prepared)])
    assert found[0] == found[1]
    assert len({tuple(values.values()) for _, _, values, _ in found[0]}) == 9


def test_a_failing_trial_is_recorded_with_its_reason_and_the_search_goes_on(prepared: Path, tmp_path: Path) -> None:
    space = {"recipe.output_bias": {"categorical": [-1.8, float("inf")]}}
    result = result_of(tune_params(space, sampler="grid"), prepared)
    good, bad = trials_of(tune_params(space, sampler="grid"), prepared)
    assert (good.state, bad.state) == ("complete", "failed")
    assert bad.reason is not None
    assert "train_loss is" in bad.reason
    assert "lower recipe.learning_rate" in bad.reason
    assert (result.trial, result.values, result.gain) == (0, {}, None)
    assert checkpoints(tmp_path) == {good.key}


def test_lack_of_memory_is_a_trials_failure_and_values_that_do_not_go_together_too(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {
        "model.base_filters": {"categorical": [2, 3]},
        "input.normalize": {"categorical": ["unit", "zscore"]},
        "input.resize": {"categorical": ["stretch", "none"]},
    }
    real = epoch.train_epoch

    def train_epoch(task: Any, *rest: Any) -> Any:
        if task.params.model.base_filters == 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return real(task, *rest)

    monkeypatch.setattr("segops.training.loop.train_epoch", train_epoch)
    params = tune_params(space, search={"trials": 8, "epochs": 1}, sampler="grid")
    result_of(params, prepared)
    by_state: dict[str, list[TrialRecord]] = {}
    for one in trials_of(params, prepared):
        by_state.setdefault(one.state, []).append(one)
    assert len(by_state["complete"]) == 3
    memory = [one for one in by_state["failed"] if "out of memory; lower recipe.batch_size" in (one.reason or "")]
    pair = [one for one in by_state["failed"] if "normalize zscore needs whole images" in (one.reason or "")]
    assert len(memory) == 3
    assert len(pair) == 2


def test_no_successful_trial_is_one_line_with_the_first_reason(prepared: Path, tmp_path: Path) -> None:
    broken = tiny(output_bias=float("inf"))
    with pytest.raises(UserError, match=r"candidate tiny: no trial of study tiny-\w+ succeeded; the first: .*loss is"):
        run(tune_params(search={"trials": 1}), prepared, tmp_path, broken)
    assert not (tmp_path / "tuned").exists()


def test_pruning_ends_unpromising_trials_but_never_the_defaults(prepared: Path, tmp_path: Path) -> None:
    params = tune_params(search={"trials": 8, "epochs": 4}, pruner="median", seed=1)
    result_of(params, prepared)
    trials = trials_of(params, prepared)
    pruned = [one for one in trials if one.state == "pruned"]
    assert pruned
    assert all(1 < len(one.curve) < 4 for one in pruned)
    assert trials[0].state == "complete"
    assert sum(len(one.curve) for one in trials) < 8 * 4


def test_more_trials_go_on_with_the_study_and_fewer_see_the_first_ones_alone(prepared: Path, tmp_path: Path) -> None:
    two = result_of(tune_params(search={"trials": 2}), prepared)
    first = trials_of(tune_params(search={"trials": 2}), prepared)
    result_of(tune_params(search={"trials": 4}), prepared)
    four = trials_of(tune_params(search={"trials": 4}), prepared)
    assert len(first) == 2
    assert len(four) == 4
    assert four[:2] == first
    assert result_of(tune_params(search={"trials": 2}), prepared) == two


def test_minutes_end_a_search_at_an_epochs_end_and_the_trial_waits_for_more(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([60.0] * 6)
    monkeypatch.setattr(worker, "seconds_left", lambda search, trials: next(left, 0.0))
    monkeypatch.setattr("segops.tuning.workers.seconds_left", lambda search, trials: next(left, 0.0))
    params = tune_params(search={"trials": 30, "minutes": 1})
    run(params, prepared, tmp_path)
    states = [one.state for one in trials_of(params, prepared)]
    assert 1 <= states.count("complete") < 6
    assert states.count("waiting") == 30 - states.count("complete")
    rows = (tmp_path / "report/trials.csv").read_text().splitlines()[1:]
    assert states.count("complete") <= len(rows) <= 6, "a slot that wasn't begun has no row"
    assert f"{30 - len(rows)} not begun" in (tmp_path / "report/index.html").read_text()
    monkeypatch.undo()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    trial = studies.load(open_storage(params), search_of(params, prepared)).get_trials()[0]
    assert 0 < studies.used_s(trial) < 60
    assert worker.seconds_left(search_of(params, prepared), [trial]) == pytest.approx(60 - studies.used_s(trial))


def test_workers_share_the_minutes(prepared: Path) -> None:
    """Two minutes of two workers are 240 s of trials: 100 and 60 s are used, 240 - 160 = 2 x 40 are left."""
    search = search_of(tune_params(search={"minutes": 2}, workers=2, storage="sqlite:///studies.db"), prepared)
    began = datetime(2026, 1, 1)
    trials = [
        optuna.trial.create_trial(state=TrialState.FAIL, user_attrs={studies.USED_S: earlier})
        for earlier in (60.0, 10.0)
    ]
    for trial, seconds in zip(trials, (40, 50), strict=True):
        trial.datetime_start, trial.datetime_complete = began, began + timedelta(seconds=seconds)
    assert worker.seconds_left(search, trials) == pytest.approx(40)
    assert worker.seconds_left(search_of(tune_params(), prepared), trials) == float("inf")


@pytest.mark.parametrize(("slots", "ended"), [(1, ["complete"]), (2, ["complete", "waiting"])])
def test_time_that_is_up_ends_every_trial_but_the_first(
    slots: int, ended: list[str], prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first trial is the candidate as it is: a search that had too little time still has something to say."""
    monkeypatch.setattr(worker._Teller, "out_of_time", lambda tell: True)
    params = tune_params(search={"trials": slots, "minutes": 9})
    search, storage = search_of(params, prepared), open_storage(params)
    studies.create(storage, search)
    data = PreparedData.open(prepared)
    for _ in range(slots):
        trial = worker.take(storage, search)
        assert trial is not None
        worker._run(storage, search, data, trial, lambda: False)
    assert [one.state for one in studies.records(storage, search)] == ended


def test_a_changed_space_is_refused_with_the_difference_and_both_ways_out_work(prepared: Path, tmp_path: Path) -> None:
    small = {"trials": 1}
    result_of(tune_params(search=small), prepared)
    wider = {"recipe.learning_rate": {"float": [1e-5, 0.1], "log": True}}
    with pytest.raises(UserError) as error:
        result_of(tune_params(wider, search=small), prepared)
    said = str(error.value)
    assert '"float": [0.0001, 0.1]' in said
    assert '"float": [1e-05, 0.1]' in said
    assert "set tune.searches.tiny.study to a new name" in said
    assert "`segops tune --remove tiny`" in said

    assert result_of(tune_params(wider, search=small | {"study": "wide"}), prepared).study.startswith("wide-")
    remove = {"candidates": {"tiny": tiny()}, "runtime": RuntimeParams(threads=1, device="cpu"), "prepared": prepared}
    changed_params = tune_params(wider, search=small)
    assert stage.remove("tiny", changed_params, **remove) == search_of(changed_params, prepared).study  # type: ignore[arg-type]
    assert result_of(changed_params, prepared).trial == 0
    with pytest.raises(UserError, match=r"tune\.searches has no 'other'; it has tiny"):
        stage.remove("other", changed_params, **remove)  # type: ignore[arg-type]


def test_other_data_or_another_candidate_are_another_study(prepared: Path, tmp_path: Path) -> None:
    params = tune_params()
    here = search_of(params, prepared).study
    elsewhere = write_prepared(tmp_path / "prepared", dtype="uint16")
    assert search_of(params, elsewhere).study != here
    assert search_of(params, prepared, tiny(batch_size=5)).study != here
    assert search_of(tune_params(seed=1), prepared).study != here
    assert search_of(tune_params(workers=2), prepared).study == here


def test_without_a_search_every_candidate_keeps_its_params(prepared: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from segops.stages.tune import tune;\n"
        "from segops.params.candidate import CandidateParams\n"
        "from segops.params.runtime import RuntimeParams\n"
        "from segops.params.tracking import TrackingParams\n"
        "from segops.params.tune import TuneParams; here = Path(sys.argv[1])\n"
        "net = CandidateParams.model_validate({'model': {'architecture': 'unet'}})\n"
        "tune(TuneParams(), {'a': net}, RuntimeParams(), TrackingParams(), prepared=here, tuned=here / 't', "
        "report=here / 'r')\n"
        "print([name for name in ('torch', 'optuna', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
    assert Tuned.load(tmp_path / "t").candidates == {"a": None}
    assert "No candidate is searched" in (tmp_path / "r/index.html").read_text()
