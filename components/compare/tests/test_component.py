from __future__ import annotations

from pathlib import Path

import pytest

from components.compare import compare
from segops.contracts.registration import Registration
from segops.params.compact import as_text
from segops.params.compare import CompareParams
from tests.support.component_steps import refused, run_step
from tests.support.judged_candidates import folders, write_candidate, write_registration
from tests.support.mlflow_server import own_names


@pytest.fixture
def given(tmp_path: Path) -> dict[str, object]:
    """Two judged candidates that missed their floor, in the loop's order, registrations in folders of their own."""
    tracking, places = own_names(), folders(tmp_path)
    registrations = []
    for name, dices in (("good", (0.8, 0.9)), ("bad", (0.3, 0.4))):
        write_candidate(tmp_path, name, val=dices)
        write_registration(tmp_path, tracking, name, None)
        registrations.append(tmp_path / "registered" / name)
        Registration.load(places.reports / name).save(registrations[-1])
        (places.reports / name / Registration.FILE).unlink()
    return {
        "params": as_text(CompareParams()),
        "tracking": as_text(tracking),
        "work": "w",
        "models": [places.models / "good", places.models / "bad"],
        "reports": [places.reports / "good", places.reports / "bad"],
        "registrations": registrations,
    }


def test_candidates_are_matched_by_what_their_files_say(given: dict[str, object], tmp_path: Path) -> None:
    given["reports"] = list(reversed(given["reports"]))  # type: ignore[call-overload]
    made = run_step(compare, tmp_path, **given)
    leaderboard = (tmp_path / "comparison" / "leaderboard.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in leaderboard[1:]] == ["good", "bad"]
    assert made["comparison"].metadata["protocol"] == "grouped"
    assert made["comparison"].metadata["decision"].startswith(("Take ", "Can't tell "))
    assert Path(made["page"].path).read_bytes() == (tmp_path / "comparison" / "index.html").read_bytes()


def test_a_candidate_without_a_registration_is_refused_in_one_line(given: dict[str, object], tmp_path: Path) -> None:
    given["registrations"] = given["registrations"][:1]  # type: ignore[index]
    with refused(r"^segops: compare: .* different candidates"):
        run_step(compare, tmp_path, **given)
