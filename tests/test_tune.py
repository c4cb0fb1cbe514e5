"""The tune stage on a tiny candidate: what is searched, kept, continued, confirmed and handed to train."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from segops.dotted import changed
from segops.errors import UserError
from segops.model_contracts import Gain, TrainedModel, Tuned, TunedCandidate
from segops.params.candidate import CandidateParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.params.tune import TuneParams
from segops.stages import tune as stage
from segops.stages.train import train
from segops.training import loop
from segops.trials import TrialRecord, best, pareto_front
from segops.tuning import search as worker
from segops.tuning import study as studies
from segops.tuning.storage import open_storage
from tests.tiny_prepared import write_prepared
from tests.tiny_searches import AWAY, LEARNING_RATE, result_of, run, search_of, tiny, trials_of, tune_params


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(autouse=True)
def _no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)


def never(*_: object) -> None:
    pytest.fail("trained again")


def checkpoints(root: Path) -> set[str]:
    return {path.name for path in (root / ".segops/checkpoints").iterdir()}


# ------------------------------------------------------------------------------------------------------ one search


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

    monkeypatch.setattr(loop, "train_epoch", never)
    runtime = RuntimeParams(threads=1)
    given: dict[str, Any] = {"prepared": prepared, "tuned": tmp_path / "tuned"}
    model = train("tiny", tiny(), runtime, TrackingParams(), model=tmp_path / "model", **given)
    assert model.checkpoints == [top.key]
    assert model.tuned is not None
    assert (model.tuned.trial, model.tuned.values) == (top.number, top.values)
    assert model.params == changed(tiny(), top.values).model_dump(mode="json")
    assert TrainedModel.load(tmp_path / "model") == model


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
    monkeypatch.setattr(loop, "train_epoch", never)
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

    def instead(job: Any, on_epoch: Any, made: Any) -> loop.Fitted:
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
    real = loop.train_epoch

    def train_epoch(task: Any, state: Any, network: Any) -> Any:
        if task.params.model.base_filters == 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return real(task, state, network)

    monkeypatch.setattr(loop, "train_epoch", train_epoch)
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


# --------------------------------------------------------------------------------------------- budgets and changes


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
    result_of(params, prepared)
    states = [one.state for one in trials_of(params, prepared)]
    assert 1 <= states.count("complete") < 6
    assert states.count("waiting") == 30 - states.count("complete")
    monkeypatch.undo()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    trial = studies.load(open_storage(params), search_of(params, prepared)).get_trials()[0]
    assert 0 < studies.used_s(trial) < 60
    assert worker.seconds_left(search_of(params, prepared), [trial]) == pytest.approx(60 - studies.used_s(trial))


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
    remove = {"candidates": {"tiny": tiny()}, "runtime": RuntimeParams(threads=1), "prepared": prepared}
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


# ----------------------------------------------------------------------------------------------------- what is taken


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
    model = train("tiny", tiny(), RuntimeParams(threads=1), TrackingParams(), **given)
    assert model.epochs == 2
    assert set(model.checkpoints) == checkpoints(tmp_path)


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
    model = train("tiny", pair, RuntimeParams(threads=1), TrackingParams(), **given)
    assert model.params == changed(pair, result.values).model_dump(mode="json")
    assert checkpoints(tmp_path) == set(model.checkpoints)
    assert len(model.checkpoints) == 2


def test_a_training_that_was_done_before_is_not_done_again(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two slots with one choice are one training."""
    params = tune_params({"model.base_filters": {"categorical": [2, 3]}}, search={"trials": 6}, sampler="random")
    real, epochs = loop.train_epoch, []

    def counted(task: Any, state: Any, network: Any) -> Any:
        epochs.append(task.params.model.base_filters)
        return real(task, state, network)

    monkeypatch.setattr(loop, "train_epoch", counted)
    result_of(params, prepared)
    trials = trials_of(params, prepared)
    assert len(trials) == 6
    assert len(epochs) == 2 * len({one.key for one in trials})
    assert len({(one.key, one.dice) for one in trials}) == len({one.key for one in trials})


# ------------------------------------------------------------------------------------------------------------ train


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, r"best\.yaml: no such file; run `segops tune` first"),
        ("other: {}", r"best\.yaml doesn't have candidate 'tiny'; run `segops tune` again"),
        ("tiny: {values: 3}", r"best\.yaml: not what `segops tune` writes"),
        ("tiny: [", r"best\.yaml: not what `segops tune` writes"),
        ("- 1", r"best\.yaml: not what `segops tune` writes"),
    ],
)
def test_a_best_yaml_that_does_not_fit_is_one_line(
    text: str | None, expected: str, prepared: Path, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "best.yaml").write_text(text)
    with pytest.raises(UserError, match=expected):
        train(
            "tiny",
            tiny(),
            RuntimeParams(),
            TrackingParams(),
            prepared=prepared,
            tuned=tmp_path,
            model=tmp_path / "model",
        )


def test_values_that_no_longer_fit_the_candidate_are_one_line(prepared: Path, tmp_path: Path) -> None:
    found = TunedCandidate(values={"model.filters": [4, 8]}, study="s", trial=1, score=0.5, default_score=0.4)
    Tuned(candidates={"tiny": found}).save(tmp_path)
    with pytest.raises(UserError, match=r"the values of tiny don't fit its params any more; run `segops tune` again"):
        train(
            "tiny",
            tiny(),
            RuntimeParams(),
            TrackingParams(),
            prepared=prepared,
            tuned=tmp_path,
            model=tmp_path / "model",
        )


# ---------------------------------------------------------------------------------------- processes and the storage


def _start(root: Path, params: TuneParams, prepared: Path) -> subprocess.Popen[bytes]:
    """`segops tune` in a process of its own."""
    raw: dict[str, Any] = {
        "runtime": {"threads": 1},
        "tune": params.model_dump(mode="json", by_alias=True, exclude_none=True),
        "candidates": {"tiny": tiny(epochs=12).model_dump(mode="json")},
    }
    for search in raw["tune"]["searches"].values():
        search["space"] = LEARNING_RATE
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    command = [sys.executable, "-c", "from segops.cli.main import main; main()", "tune", "--prepared", str(prepared)]
    return subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("storage", [None, "sqlite:///.segops/tuning/studies.db"])
def test_a_killed_search_goes_on_and_loses_nothing(storage: str | None, prepared: Path, tmp_path: Path) -> None:
    params = tune_params(search={"trials": 3}, storage=storage, heartbeat_s=1)
    candidate = tiny(epochs=12)

    def trials() -> list[TrialRecord]:
        try:
            return trials_of(params, prepared, candidate)
        except (studies.NoStudyError, UserError):
            return []

    open_storage(params)  # made here: two that make one sqlite file at once disturb each other
    with _start(tmp_path, params, prepared) as process:
        deadline = time.monotonic() + 120
        while not any(one.state == "running" and one.curve and one.number > 0 for one in trials()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    cut = next(one for one in trials() if one.state == "running")
    result_of(params, prepared, candidate)
    ended = trials()
    assert all(one.ended for one in ended)
    done = [one for one in ended if one.state == "complete"]
    assert sorted(one.slot for one in done) == [0, 1, 2]
    again = next(one for one in done if one.slot == cut.slot)
    assert again.values == cut.values
    assert again.curve[: len(cut.curve)] == cut.curve
    assert len(again.curve) == 12
    if storage is None:
        assert len(ended) == 3, "under its own number: nobody else lives"
    else:
        assert [one.reason for one in ended if one.number == cut.number] == ["its worker died; tried again"]


def test_a_trial_whose_worker_dies_twice_has_failed(prepared: Path) -> None:
    params = tune_params(search={"trials": 2})
    search, storage = search_of(params, prepared), open_storage(params)
    studies.create(storage, search)
    for again in ([0], []):
        trial = worker.take(storage, search)
        assert trial is not None
        assert trial.number == 0
        assert studies.recover(storage, search) == again
    first = studies.records(storage, search)[0]
    assert (first.state, first.reason) == ("failed", "its worker was killed 2 times")


@pytest.mark.slow
def test_several_workers_run_each_slot_once(prepared: Path, tmp_path: Path) -> None:
    params = tune_params(search={"trials": 5, "epochs": 1}, workers=2)
    result_of(params, prepared)
    trials = trials_of(params, prepared)
    assert sorted(one.slot for one in trials) == list(range(5))
    assert {one.state for one in trials} == {"complete"}


def test_a_second_search_of_the_study_is_refused(prepared: Path, tmp_path: Path) -> None:
    from segops.training.checkpoint import hold

    study = search_of(tune_params(), prepared).study
    with (
        hold(tmp_path / ".segops/tuning" / f"{study}.lock"),
        pytest.raises(
            UserError, match=rf"study {study} is already being searched by pid \d+ on .*; wait for it or stop"
        ),
    ):
        result_of(tune_params(), prepared)


def test_a_storage_that_is_away_is_one_line_without_the_password(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg", reason="needs the driver of PostgreSQL")
    monkeypatch.setattr("segops.tuning.storage._PAUSES_S", (0.01, 0.01))
    monkeypatch.setenv("SEGOPS_TUNE_STORAGE", "postgresql://me:hidden@127.0.0.1:9/optuna")
    with pytest.raises(UserError) as error:
        result_of(tune_params(), prepared)
    said = str(error.value)
    assert said.startswith("tune.storage postgresql://127.0.0.1:9/optuna does not answer (")
    assert "trials that ended are kept there: start it and run the same command again" in said
    assert "hidden" not in said
    assert "\n" not in said


def test_a_storage_of_the_environment_that_is_none_is_one_line(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGOPS_TUNE_STORAGE", "redis://db")
    with pytest.raises(UserError, match=r"^SEGOPS_TUNE_STORAGE: storage: sqlite:///file, postgresql://"):
        result_of(tune_params(), prepared)
