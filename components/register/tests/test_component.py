from __future__ import annotations

from pathlib import Path

import pytest

from components.register import register
from segops.contracts.evaluation import Evaluation
from segops.contracts.registration import Registration
from segops.kubeflow import registration_note
from segops.params.compact import as_text
from segops.params.register import RegisterParams
from segops.params.tracking import TrackingParams
from tests.support.component_steps import run_step
from tests.support.judged_candidates import folders, write_candidate, write_registration
from tests.support.mlflow_server import own_names


def test_a_missed_floor_is_written_and_the_read_only_report_stays_as_it_was(tmp_path: Path) -> None:
    tracking = own_names()
    write_candidate(tmp_path, "small", val=(0.2, 0.3))
    places = folders(tmp_path)
    before = sorted(places.reports.rglob("*"))
    given = {"params": as_text(RegisterParams()), "tracking": as_text(tracking)}
    report, model = places.reports / "small", places.models / "small"
    made = run_step(register, tmp_path, model=model, report=report, **given)
    registration = Registration.load(Path(made["registered"].path))
    assert made["registered"].metadata == {
        "candidate": "small",
        "registered": False,
        "reason": registration.reason,
        "model_name": tracking.model_name,
    }
    assert "validation Dice 0.2500 is below the floor 0.5" in str(registration.reason)
    assert sorted(places.reports.rglob("*")) == before
    assert "# Model card: small on made-up" in (Path(made["registered"].path) / "model_card.md").read_text()
    summary = Path(made["summary"].path).read_text().splitlines()
    assert summary[0] == f"**small** got no version: {registration.reason}."
    assert "| dice | 0.2500 | 0.8000 |" in summary


def test_the_summary_links_to_the_version_without_the_servers_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_candidate(tmp_path, "small")
    report = folders(tmp_path).reports / "small"
    write_registration(tmp_path, TrackingParams(model_name="cells"), "small", 3)
    made, evaluation = Registration.load(report), Evaluation.load(report)
    assert registration_note(made, evaluation).startswith("**small** is version 3 of cells.\n")
    folds = evaluation.model_copy(update={"out_of_fold": evaluation.val})
    assert "| validation | test | out of fold |" in registration_note(made, folds)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hidden@mlflow.lab.example/")
    line = "**small** is [version 3 of cells](https://mlflow.lab.example/#/models/cells/versions/3)."
    assert registration_note(made, evaluation).splitlines()[0] == line
