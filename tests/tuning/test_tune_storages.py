"""The same searches on every storage: a journal file, sqlite, and a PostgreSQL server of the test's own."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import active_children
from pathlib import Path
from threading import Thread, Timer

import pytest
from optuna.trial import TrialState

from segops.contracts.trials import TrialRecord
from segops.data.arrays import PreparedData
from segops.errors import UserError
from segops.tuning import search as worker
from segops.tuning import study as studies
from segops.tuning import workers
from segops.tuning.storage import StorageAwayError, open_storage
from tests.support.machine import AllowedEpochs
from tests.support.postgresql import Server
from tests.support.tiny_searches import result_of, search_of, tiny, trials_of, tune_params

pytest_plugins = ["tests.support.postgresql"]
SQLITE = "sqlite:///.segops/tuning/studies.db"


def url_of(storage: str, request: pytest.FixtureRequest) -> str | None:
    if storage == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        return server.url
    return SQLITE if storage == "sqlite" else None


@pytest.mark.parametrize("storage", ["journal", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_each_storage_gives_the_same_search(storage: str, prepared: Path, request: pytest.FixtureRequest) -> None:
    space = {
        "recipe.learning_rate": {"float": [1e-4, 0.1], "log": True},
        "model.batch_norm": {"categorical": [False, True]},
        "model.dropout_decoder": {"float": [0, 0.5], "when": {"model.batch_norm": False}},
    }
    params = tune_params(space, search={"trials": 3, "epochs": 1}, storage=url_of(storage, request), seed=3)
    made = result_of(params, prepared)
    trials = trials_of(params, prepared)
    assert [one.state for one in trials] == ["complete"] * 3
    assert trials[0].values == {"recipe.learning_rate": 0.01, "model.batch_norm": False, "model.dropout_decoder": 0.0}
    drawn = result_of(tune_params(space, search={"trials": 3, "epochs": 1}, seed=3), prepared)
    assert (made.values, made.score) == (drawn.values, drawn.score)
    assert result_of(params, prepared) == made
    wider = {**space, "recipe.weight_decay": {"float": [0, 0.5]}}
    with pytest.raises(UserError, match=r"recipe\.weight_decay: none then, .* now"):
        result_of(tune_params(wider, search={"trials": 3, "epochs": 1}, storage=params.storage, seed=3), prepared)
    storage_there = open_storage(params)
    assert studies.remove(storage_there, search_of(params, prepared))
    assert not studies.remove(storage_there, search_of(params, prepared))


@pytest.mark.parametrize("storage", ["journal", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_a_slot_is_taken_by_one_worker_alone(storage: str, prepared: Path, request: pytest.FixtureRequest) -> None:
    params = tune_params(search={"trials": 4, "study": "slots"}, storage=url_of(storage, request), seed=9)
    search, storages = search_of(params, prepared), [open_storage(params) for _ in range(2)]
    studies.create(storages[0], search)
    taken = [worker.take(storages[at % 2], search) for at in range(4)]
    assert [one.number for one in taken if one is not None] == [0, 1, 2, 3]
    studies.give_back(storages[0], storages[0].get_trial(taken[2]._trial_id), died=False)  # type: ignore[union-attr]
    again = worker.take(storages[1], search)
    assert again is not None
    assert again.number == 2


def test_a_heart_that_stops_lets_others_retry_once_and_a_late_worker_changes_nothing(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = tune_params(search={"trials": 1}, storage=SQLITE, heartbeat_s=1)
    search, storage = search_of(params, prepared), open_storage(params)
    studies.create(storage, search)
    silent = worker.take(storage, search)
    assert silent is not None
    time.sleep(4.5)  # three missed beats
    second = worker.take(storage, search)
    assert second is not None
    assert (silent.number, second.number) == (0, 1)
    late = worker._Teller(storage, search, silent)
    late.end(TrialState.COMPLETE, [0.99])
    worker._run(storage, search, PreparedData.open(prepared), silent, lambda: False)
    assert [one.state for one in studies.records(storage, search)] == ["failed", "running"]
    assert "taken for dead by another worker; its retry counts" in capsys.readouterr().err
    time.sleep(4.5)
    assert worker.take(storage, search) is None
    assert [one.state for one in studies.records(storage, search)] == ["failed", "failed"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_three_workers_on_one_database_one_is_killed_and_no_trial_is_lost_or_doubled(
    prepared: Path, postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = AllowedEpochs(tmp_path / "epochs", 3)
    for name, value in epochs.environment.items():
        monkeypatch.setenv(name, value)
    params = tune_params(
        search={"trials": 8, "study": "killed"}, storage=postgresql.url, workers=3, heartbeat_s=1, seed=5
    )
    candidate = tiny(epochs=15)
    killed: list[int] = []

    def kill() -> None:
        """SIGKILL one worker in mid-trial."""
        deadline = time.monotonic() + 600
        while not killed and time.monotonic() < deadline:
            time.sleep(0.2)
            try:
                found = trials_of(params, prepared, candidate)
            except (studies.NoStudyError, UserError):
                continue
            if sum(one.state == "running" and len(one.curve) == 3 for one in found) == 3:
                (process,) = [one for one in active_children() if one.name == "worker 1"]
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
        epochs.allow(1000)

    killer = Thread(target=kill)
    killer.start()
    result_of(params, prepared, candidate)
    killer.join()
    assert killed
    trials = trials_of(params, prepared, candidate)
    done = [one for one in trials if one.state == "complete"]
    assert sorted(one.slot for one in done) == list(range(8)), "each slot once"
    (dead,) = [one for one in trials if one.state != "complete"]
    assert (dead.state, dead.reason) == ("failed", "its worker died; tried again")
    (again,) = [one for one in done if one.slot == dead.slot]
    assert again.values == dead.values
    assert again.number > 7
    assert len(trials) == 9


@pytest.mark.slow
def test_a_database_that_goes_away_for_a_while_costs_no_trial(prepared: Path, postgresql: Server) -> None:
    params = tune_params(search={"trials": 4, "study": "away"}, storage=postgresql.url, heartbeat_s=30, seed=6)
    stopped: list[int] = []

    def look(trials: list[TrialRecord]) -> None:
        if not stopped and sum(one.ended for one in trials) == 2:
            stopped.append(1)
            postgresql.stop()
            Timer(4, postgresql.start).start()

    search = search_of(params, prepared)
    workers.run(search, after_trial=look)
    trials = trials_of(params, prepared)
    assert stopped
    assert [(one.number, one.state) for one in trials] == [(at, "complete") for at in range(4)]


@pytest.mark.slow
def test_a_database_that_stays_away_is_one_line_and_keeps_what_ended(
    prepared: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tune_params(search={"trials": 4, "study": "gone"}, storage=postgresql.url, heartbeat_s=1, seed=7)
    monkeypatch.setattr("segops.tuning.storage._PAUSES_S", (0.2, 0.2))
    stopped: list[int] = []

    def look(trials: list[TrialRecord]) -> None:
        if not stopped and sum(one.ended for one in trials) == 2:
            stopped.append(1)
            postgresql.stop()

    search = search_of(params, prepared)
    with pytest.raises(
        StorageAwayError, match=r"^tune\.storage postgresql://127\.0\.0\.1:\d+/segops does not answer \("
    ):
        workers.run(search, after_trial=look)
    postgresql.start()
    assert [one.state for one in trials_of(params, prepared)][:2] == ["complete", "complete"]
    workers.run(search, after_trial=look)
    done = [one for one in trials_of(params, prepared) if one.state == "complete"]
    assert sorted(one.slot for one in done) == [0, 1, 2, 3]
