from __future__ import annotations

from pathlib import Path

from components.register import register
from segops.contracts import Registration
from segops.kubeflow import as_json
from segops.params import RegisterParams
from tests.component_steps import run_step
from tests.judged_candidates import folders, write_candidate
from tests.mlflow_server import own_names


def test_a_missed_floor_is_written_and_the_read_only_report_stays_as_it_was(tmp_path: Path) -> None:
    tracking = own_names()
    write_candidate(tmp_path, "small", val=(0.2, 0.3))
    places = folders(tmp_path)
    before = sorted(places.reports.rglob("*"))
    given = {"params": as_json(RegisterParams()), "tracking": as_json(tracking)}
    report, model = places.reports / "small", places.models / "small"
    made = run_step(register, tmp_path, model=model, report=report, **given)["registered"]
    registration = Registration.load(Path(made.path))
    assert made.metadata == {
        "candidate": "small",
        "registered": False,
        "reason": registration.reason,
        "model_name": tracking.model_name,
    }
    assert "validation Dice 0.2500 is below the floor 0.5" in str(registration.reason)
    assert sorted(places.reports.rglob("*")) == before
