from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.tune import tune
from components.tune_start import tune_start
from components.tune_worker import tune_worker
from segops.contracts.tuned import Tuned
from segops.kubeflow import loop_items
from segops.params.compact import as_text
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from tests.support.component_steps import refused, run_step
from tests.support.mlflow_server import AWAY
from tests.support.tiny_prepared import write_prepared
from tests.support.tiny_searches import search_of, tiny, trials_of, tune_params

SQLITE = "sqlite:///.segops/tuning/studies.db"


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    return {
        "params": as_text(tune_params(search={"trials": 2, "epochs": 1}, storage=SQLITE)),
        "candidates": loop_items({"tiny": tiny(), "other": tiny()}),
        "runtime": as_text(RuntimeParams(threads=1)),
        "tracking": as_text(TrackingParams()),
        "code": "",
        "prepared": write_prepared(tmp_path / "prepared"),
    }


def test_values_by_candidate_with_the_page_beside_them(given: dict[str, Any], tmp_path: Path) -> None:
    made = run_step(tune, tmp_path, **given)
    result = Tuned.load(Path(made["tuned"].path)).candidates["tiny"]
    assert result is not None
    assert made["tuned"].metadata == {"tiny_trial": result.trial, "tiny_val_dice": result.score}
    assert Path(made["page"].path).read_bytes() == (tmp_path / "report" / "index.html").read_bytes()


def test_studies_are_made_then_worked_on_then_read(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tune_params(search={"trials": 2, "epochs": 1}, storage=SQLITE)
    run_step(tune_start, tmp_path, **given)
    assert [trial.state for trial in trials_of(params, given["prepared"])] == ["waiting", "waiting"]
    run_step(tune_worker, tmp_path, worker=0, **given)
    assert [trial.state for trial in trials_of(params, given["prepared"])] == ["complete", "complete"]
    run_step(tune_worker, tmp_path, worker=1, **given)  # finds nothing left
    monkeypatch.setattr("segops.tuning.search._run", lambda *_: pytest.fail("a trial too many"))
    made = run_step(tune, tmp_path, **given)
    assert Path(made["tuned"].path, "best.yaml").is_file()
    assert search_of(params, given["prepared"]).study in (tmp_path / "report/trials.csv").read_text()


def test_a_space_that_does_not_fit_is_one_line(given: dict[str, Any], tmp_path: Path) -> None:
    given["candidates"] = loop_items({"tiny": tiny(learning_rate=0.5)})
    with refused(r"^segops: tune\.searches\.tiny\.space: recipe\.learning_rate: the .* 0\.5"):
        run_step(tune, tmp_path, **given)
    assert not (tmp_path / "tuned").exists()
