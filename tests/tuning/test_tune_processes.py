"""A search in several processes, killed ones among them, on one storage."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from segops.contracts.trials import TrialRecord
from segops.errors import TryAgainError, UserError
from segops.params.tune import TuneParams
from segops.tuning import search as worker
from segops.tuning import study as studies
from segops.tuning.storage import open_storage
from tests.support.machine import AllowedEpochs, started, wait_until
from tests.support.tiny_searches import LEARNING_RATE, result_of, search_of, tiny, trials_of, tune_params

pytestmark = pytest.mark.usefixtures("mlflow_away")


def _start(
    root: Path, params: TuneParams, prepared: Path, epochs: int
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """`segops tune` in a process of its own, which goes no further than that."""
    raw: dict[str, Any] = {
        "runtime": {"threads": 1, "device": "cpu"},
        "ingest": {"source": "unused"},
        "tune": params.model_dump(mode="json", by_alias=True, exclude_none=True),
        "candidates": {"tiny": tiny(epochs=12).model_dump(mode="json")},
    }
    for search in raw["tune"]["searches"].values():
        search["space"] = LEARNING_RATE
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    command = [sys.executable, "-c", "from segops.cli.main import main; main()", "tune", "--prepared", str(prepared)]
    return started(command, root, AllowedEpochs(root / "epochs", epochs).environment)


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
    with _start(tmp_path, params, prepared, epochs=15) as process:
        wait_until(lambda: any(one.number == 1 and len(one.curve) == 3 for one in trials()), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
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
    from segops.locks import hold

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
    with pytest.raises(TryAgainError) as error:
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
