"""What a worker of a search decides when trainings score as chosen: which trial, when it ends, what it counts."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from segops.contracts.trials import TrialRecord
from segops.data.arrays import PreparedData
from segops.errors import DiskFullError, OneLineError, TryAgainError, UserError
from segops.tuning import confirm as confirm_module
from segops.tuning import search as worker
from segops.tuning import study as studies
from segops.tuning.storage import StorageAwayError
from segops.tuning.study import SLOT, TRIES, USED_S, Search
from tests.support.tiny_searches import search_of, tune_params

CURVE = (0.5, 0.7)


def never() -> bool:
    return False


class World:
    """A search whose study stands in memory."""

    def __init__(self, prepared: Path, **tune: Any) -> None:
        self.params, self.prepared = tune_params(**tune), prepared
        self.search, self.storage = search_of(self.params, prepared), InMemoryStorage()
        studies.create(self.storage, self.search)

    def of(self, **search: Any) -> Search:
        """The same study, searched with another budget."""
        from dataclasses import replace

        return replace(self.search, search=self.search.search.model_copy(update=search))

    def take(self, search: Search | None = None) -> Trial | None:
        return worker.take(self.storage, search or self.search)

    def taken(self) -> Trial:
        trial = self.take()
        assert trial is not None
        return trial

    def run(self, stopped: Callable[[], bool] = never) -> TrialRecord:
        """Take a trial and run it; what is known of it then."""
        trial = self.taken()
        worker._run(self.storage, self.search, PreparedData.open(self.prepared), trial, stopped)
        return self.records[trial.number]

    @property
    def records(self) -> list[TrialRecord]:
        return studies.records(self.storage, self.search)

    @property
    def frozen(self) -> list[FrozenTrial]:
        return studies.load(self.storage, self.search).get_trials()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[float]]:
    """The validation Dice that trainings have by epoch, one training after another; CURVE where there is none."""
    curves: list[Sequence[float]] = []

    def fitted(job: Any, on_epoch: Callable[[int, float], None], *, before_training: Callable[[], None]) -> Any:
        before_training()
        curve = curves.pop(0) if curves else CURVE
        for epoch, dice in enumerate(curve, start=1):
            on_epoch(epoch, dice)
        best = max(range(len(curve)), key=lambda at: curve[at])
        return SimpleNamespace(history=[{"val_dice": dice} for dice in curve], best_epoch=best + 1, weights={})

    monkeypatch.setattr(worker, "fitted", fitted)
    return curves


# ------------------------------------------------------------------------------------------------ which trial is next


def test_slots_are_taken_in_order_each_once(prepared: Path) -> None:
    world = World(prepared, search={"trials": 3})
    assert [world.taken().number for _ in range(3)] == [0, 1, 2]
    assert world.take() is None, "the others run: without heartbeats nobody waits for them"


def test_the_first_slot_goes_first_whatever_its_number(prepared: Path) -> None:
    world = World(prepared, search={"trials": 3})
    for trial, slot in zip(world.frozen, (2, 0, 1), strict=True):
        world.storage.set_trial_user_attr(trial._trial_id, SLOT, slot)
    assert [world.taken().number for _ in range(3)] == [1, 2, 0]


def test_slots_beyond_the_budget_are_left_alone(prepared: Path) -> None:
    world = World(prepared, search={"trials": 3})
    fewer = world.of(trials=2)
    assert [trial and trial.number for trial in (world.take(fewer), world.take(fewer), world.take(fewer))] == [
        0,
        1,
        None,
    ]
    assert [one.slot for one in studies.records(world.storage, fewer)] == [0, 1]


@pytest.mark.parametrize(("used_s", "goes_on"), [(59.0, True), (59.9, True), (60.0, False), (61.0, False)])
def test_a_trial_is_taken_while_time_is_left(prepared: Path, used_s: float, goes_on: bool) -> None:
    world = World(prepared, search={"trials": 2, "minutes": 1})
    world.storage.set_trial_user_attr(world.frozen[1]._trial_id, USED_S, used_s)
    assert (world.take() is not None) == goes_on


def test_a_trial_that_another_worker_finished_meanwhile_is_not_taken(prepared: Path) -> None:
    world = World(prepared, search={"trials": 2})
    waiting = world.frozen[0]
    assert worker._take(world.storage, waiting, False)
    assert not worker._take(world.storage, waiting, False)
    world.storage.set_trial_state_values(waiting._trial_id, TrialState.COMPLETE, [0.5])
    assert not worker._take(world.storage, waiting, False)


# ------------------------------------------------------------------------------------------------- how a trial ends


def test_a_trial_scores_its_best_epoch_and_keeps_its_curve(
    prepared: Path, trained: list[Sequence[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(prepared, search={"trials": 2})
    trained[:] = [(0.7, 0.5), (0.2, 0.6)]
    own, other = world.run(), world.run()
    assert (own.state, own.dice, own.curve, own.milliseconds, own.made) == ("complete", 0.7, (0.7, 0.5), None, True)
    assert (own.values, own.slot) == ({"recipe.learning_rate": 0.01}, 0)
    assert (other.state, other.dice, other.slot) == ("complete", 0.6, 1)
    assert own.key != other.key
    said = capsys.readouterr().err
    assert f"{world.search.study} trial 0: {{'recipe.learning_rate': 0.01}}\n" in said
    assert f"{world.search.study} trial 0: complete, Dice 0.7000\n" in said
    assert [one.intermediate_values for one in world.frozen] == [{1: 0.7, 2: 0.5}, {1: 0.2, 2: 0.6}]


def test_a_training_that_another_trial_had_done_is_not_done_again(
    prepared: Path, trained: list[Sequence[float]]
) -> None:
    world = World(prepared, space={"model.base_filters": {"categorical": [2]}}, search={"trials": 2})
    trained[:] = [(0.4, 0.3)]
    own, same = world.run(), world.run()
    assert (same.state, same.dice, same.curve, same.made) == ("complete", 0.4, (0.4, 0.3), False)
    assert same.key == own.key


def test_who_is_stopped_ends_at_the_epochs_end_and_the_trial_waits_for_another(
    prepared: Path, trained: list[Sequence[float]]
) -> None:
    world = World(prepared, search={"trials": 1})
    record = world.run(stopped=lambda: True)
    assert (record.state, record.curve) == ("waiting", (0.5,))
    assert world.frozen[0].user_attrs[TRIES] == 1, "nobody died"
    assert world.run().state == "complete"


def test_who_is_stopped_after_the_last_epoch_has_a_complete_trial(
    prepared: Path, trained: list[Sequence[float]]
) -> None:
    world = World(prepared, search={"trials": 1})
    asked: list[int] = []

    def after_the_first_epoch() -> bool:
        asked.append(1)
        return len(asked) > 1

    assert world.run(stopped=after_the_first_epoch).state == "complete"


def test_time_that_is_up_gives_a_trial_back_but_never_the_first(
    prepared: Path, trained: list[Sequence[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(prepared, search={"trials": 2, "minutes": 1})
    monkeypatch.setattr(worker._Teller, "out_of_time", lambda tell: True)
    assert [world.run().state, world.run().state] == ["complete", "waiting"]


@pytest.mark.parametrize(("minutes", "used_s", "out"), [(None, 999.0, False), (1, 59.0, False), (1, 60.0, True)])
def test_time_is_up_when_all_trials_together_used_it(
    prepared: Path, minutes: float | None, used_s: float, out: bool
) -> None:
    world = World(prepared, search={"trials": 2, "minutes": minutes})
    trial = Trial(studies.load(world.storage, world.search), world.frozen[0]._trial_id)
    world.storage.set_trial_user_attr(world.frozen[1]._trial_id, USED_S, used_s)
    assert worker._Teller(world.storage, world.search, trial).out_of_time() is out


def test_an_unpromising_trial_is_pruned_but_never_the_first(
    prepared: Path, trained: list[Sequence[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(prepared, search={"trials": 2}, pruner="median")
    monkeypatch.setattr(Trial, "should_prune", lambda trial: True)
    own, other = world.run(), world.run()
    assert (own.state, other.state, other.curve, other.dice) == ("complete", "pruned", (0.5,), None)


def test_of_two_objectives_nothing_is_pruned_and_no_epoch_is_reported(
    prepared: Path, trained: list[Sequence[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(prepared, search={"trials": 2}, objectives=["dice", "milliseconds"], sampler="nsga2")
    monkeypatch.setattr(worker, "measure_milliseconds", lambda job, weights: 3.5)
    states = [world.run(), world.run()]
    assert [(one.state, one.dice, one.milliseconds, one.curve) for one in states] == [("complete", 0.7, 3.5, CURVE)] * 2
    assert [one.intermediate_values for one in world.frozen] == [{}, {}]


def _fails(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fitted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(worker, "fitted", fitted)


def test_a_users_error_is_the_trials_reason_and_the_search_goes_on(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(prepared, search={"trials": 1})
    _fails(monkeypatch, UserError("the loss is\n NaN"))
    record = world.run()
    assert (record.state, record.reason, record.dice) == ("failed", "the loss is NaN", None)
    assert "trial 0 failed: the loss is\n NaN\n" in capsys.readouterr().err


def test_our_own_error_is_recorded_and_raised(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(prepared, search={"trials": 1})
    _fails(monkeypatch, ZeroDivisionError("division by zero"))
    with pytest.raises(ZeroDivisionError):
        world.run()
    assert (world.records[0].state, world.records[0].reason) == ("failed", "ZeroDivisionError: division by zero")
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_who_is_ended_gives_the_trial_back_and_ends(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    world = World(prepared, search={"trials": 1})
    _fails(monkeypatch, error)
    with pytest.raises(type(error)):
        world.run()
    assert (world.records[0].state, world.frozen[0].user_attrs[TRIES]) == ("waiting", 1)


@pytest.mark.parametrize(
    "error",
    [
        DiskFullError("can't write state.safetensors"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
    ],
)
def test_a_full_disk_uses_up_no_trial_however_often(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world = World(prepared, search={"trials": 1})
    _fails(monkeypatch, error)
    for _ in range(4):
        with pytest.raises(DiskFullError, match="can't write"):
            world.run()
        assert (world.records[0].state, world.frozen[0].user_attrs[TRIES]) == ("waiting", 1)


def test_a_storage_that_is_away_is_no_trials_fault(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(prepared, search={"trials": 1})
    _fails(monkeypatch, StorageAwayError("away"))
    with pytest.raises(StorageAwayError):
        world.run()
    assert world.records[0].state == "running"


def test_a_trial_that_was_taken_for_dead_leaves_the_word_to_its_retry(
    prepared: Path, trained: list[Sequence[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(prepared, search={"trials": 1})

    def others_end_it() -> bool:
        world.storage.set_trial_state_values(world.frozen[0]._trial_id, TrialState.FAIL)
        return False

    record = world.run(stopped=others_end_it)
    assert (record.state, record.reason) == ("failed", "its worker died; tried again")
    assert "trial 0 was taken for dead by another worker; its retry counts" in capsys.readouterr().err


def test_values_that_do_not_go_together_are_a_reason(prepared: Path) -> None:
    world = World(prepared)
    with pytest.raises(UserError, match="these values don't go together: "):
        worker._trial_params(world.search, {"recipe.epochs": 0})


def test_a_worker_works_until_no_slot_is_left_and_calls_in_between(
    prepared: Path, trained: list[Sequence[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(prepared, search={"trials": 3})
    monkeypatch.setattr(worker, "open_storage", lambda tune: world.storage)
    removed: list[int] = []
    monkeypatch.setattr(worker, "remove_checkpoints", lambda search, trials: removed.append(len(trials)))
    ended: list[int] = []
    worker.work(world.search, after_trial=lambda: ended.append(sum(one.ended for one in world.records)))
    assert (ended, removed) == ([1, 2, 3], [3, 3, 3])


def test_a_stopped_worker_takes_no_trial(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(prepared, search={"trials": 1})
    monkeypatch.setattr(worker, "open_storage", lambda tune: world.storage)
    worker.work(world.search, stopped=lambda: True)
    assert world.records[0].state == "waiting"


# ------------------------------------------------------------------------------------------------------- the study


def _running(world: World, tries: int | None = None) -> FrozenTrial:
    trial = world.frozen[0]
    world.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    if tries is not None:
        world.storage.set_trial_user_attr(trial._trial_id, TRIES, tries)
    return world.frozen[0]


@pytest.mark.parametrize(
    ("tries", "died", "waits", "then"),
    [(None, True, True, 2), (2, True, False, 3), (2, False, True, 2), (None, False, True, 1)],
)
def test_a_trial_is_tried_twice_and_only_deaths_count(
    prepared: Path, tries: int | None, died: bool, waits: bool, then: int
) -> None:
    world = World(prepared, search={"trials": 1})
    assert studies.give_back(world.storage, _running(world, tries), died=died) is waits
    trial = world.frozen[0]
    assert trial.user_attrs[TRIES] == then
    assert 0 < trial.user_attrs[USED_S] < 60
    assert (world.records[0].state, world.records[0].reason) == (
        ("waiting", None) if waits else ("failed", "its worker was killed 2 times")
    )


def test_trials_that_a_killed_process_left_running_wait_again(prepared: Path) -> None:
    world = World(prepared, search={"trials": 3})
    _running(world)
    assert studies.recover(world.storage, world.search) == [0]
    assert [one.state for one in world.records] == ["waiting"] * 3


def test_a_search_that_got_more_slots_keeps_those_it_had(prepared: Path) -> None:
    world = World(prepared, search={"trials": 2})
    more = world.of(trials=4)
    for _ in range(2):
        studies.create(world.storage, more)
    assert [(one.number, one.slot) for one in studies.records(world.storage, more)] == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_a_grid_has_a_slot_a_combination_within_the_budget(prepared: Path) -> None:
    space = {"model.base_filters": {"categorical": [2, 3, 4]}}
    world = World(prepared, space=space, search={"trials": 2}, sampler="grid")
    assert [trial.system_attrs["fixed_params"] for trial in world.frozen] == [
        {"model.base_filters": "2"}, {"model.base_filters": "3"},
    ]  # fmt: skip


def test_a_study_of_two_objectives_wants_more_dice_and_fewer_milliseconds(prepared: Path) -> None:
    for objectives, names in ((["dice"], ["MAXIMIZE"]), (["dice", "milliseconds"], ["MAXIMIZE", "MINIMIZE"])):
        world = World(prepared, objectives=objectives, sampler="nsga2" if len(objectives) > 1 else "tpe")
        study = studies.load(world.storage, world.search)
        assert [one.name for one in study.directions] == names
        assert world.search.two_objectives is (len(objectives) > 1)


def test_a_study_is_removed_once_and_then_not_there(prepared: Path) -> None:
    world = World(prepared)
    assert studies.remove(world.storage, world.search)
    assert not studies.remove(world.storage, world.search)
    with pytest.raises(studies.NoStudyError):
        studies.load(world.storage, world.search)


def test_seconds_of_a_trial_count_those_before_it_was_given_back(prepared: Path) -> None:
    from datetime import datetime, timedelta

    began = datetime(2026, 1, 1)
    trial = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs={USED_S: 60.0})
    trial.datetime_start, trial.datetime_complete = began, began + timedelta(seconds=40)
    assert studies.used_s(trial) == 100
    trial.state = TrialState.WAITING
    assert studies.used_s(trial) == 60
    trial.state, trial.datetime_start = TrialState.RUNNING, None
    assert studies.used_s(trial) == 60


def test_trials_of_another_process_are_read_with_their_curve_and_values(prepared: Path) -> None:
    storage: BaseStorage = InMemoryStorage()
    search = search_of(tune_params(search={"trials": 2}), prepared)
    studies.create(storage, search)
    study = studies.load(storage, search)
    first, second = study.ask(), study.ask()
    first.report(0.1, 2)
    first.report(0.3, 1)
    study.tell(first, 0.4)
    second.set_user_attr("curve", [0.9])
    second.set_user_attr("reason", "why")
    study.tell(second, state=TrialState.FAIL)
    told, failed = studies.records(storage, search)
    assert (told.curve, told.dice, told.milliseconds, told.made, told.key) == ((0.3, 0.1), 0.4, None, False, None)
    assert (failed.curve, failed.dice, failed.reason) == ((0.9,), None, "why")


@pytest.mark.parametrize(
    ("error", "scores"), [(UserError("loss is nan; lower the rate"), [0.0]), (DiskFullError("can't write"), None)]
)
def test_a_confirmation_that_fails_counts_0_but_a_full_disk_says_nothing_of_the_values(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, error: OneLineError, scores: list[float] | None
) -> None:
    world = World(prepared, confirm_seeds=1)

    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(confirm_module, "fitted", failing)
    with suppress(TryAgainError):
        gain = confirm_module.confirm(world.storage, world.search, {"recipe.learning_rate": 0.001}, [])
        assert gain is not None
        assert scores == gain.best == gain.default
    remembered = studies.load(world.storage, world.search).user_attrs.get(confirm_module._CONFIRMED, {})
    assert set(remembered.values()) == set(scores or ())
