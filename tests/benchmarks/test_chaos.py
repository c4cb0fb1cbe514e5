"""The campaign of faults: what counts as bad, what is kept, and that a kind without an end is run again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.chaos import __main__ as campaign
from benchmarks.chaos.command import Ended
from benchmarks.chaos.outcome import BAD, VERDICTS, Outcome, Verdict
from benchmarks.chaos.project import store_problem

pytest_plugins = ["tests.support.mlflow_stores"]


class Kind:
    """Two cases, the second with this verdict; counts its runs."""

    NAME = "kind"

    def __init__(self, verdict: Verdict) -> None:
        self.verdict, self.runs = verdict, 0

    def run(self, folder: Path, share: float, seed: int) -> Iterator[Outcome]:
        self.runs += 1
        assert list(folder.iterdir()) == []
        yield Outcome(self.NAME, "first", "right", "")
        yield Outcome(self.NAME, "second", self.verdict, f"share {share}, seed {seed}")


def _campaign(kind: Kind, out: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(campaign, "_kinds", lambda: {"kind": kind})
    monkeypatch.setattr(sys, "argv", ["chaos", "--out", str(out), *options])
    with pytest.raises(SystemExit) as ended:
        campaign.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_bad_case_is_an_exit_code_and_stands_below_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    assert _campaign(Kind(verdict), tmp_path, monkeypatch, "--share", "0.5") == int(verdict in BAD)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == "| kind | tried | right | one line | wrong | traceback | doubled |"
    counts = [2, *(int(verdict == name) + int(name == "right") for name in VERDICTS)]
    assert lines[2] == f"| kind | {' | '.join(map(str, counts))} |"
    bad = [f"- kind, second: {verdict}; share 0.5, seed 1"] if verdict in BAD else []
    assert [line for line in lines[3:] if line] == bad


def test_a_finished_kind_is_kept_and_one_that_was_cut_off_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = Kind("right")
    for _ in range(2):
        _campaign(kind, tmp_path, monkeypatch)
    assert kind.runs == 1
    path = tmp_path / "kind.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    _campaign(kind, tmp_path, monkeypatch)
    assert kind.runs == 2
    _campaign(kind, tmp_path, monkeypatch, "--again")
    assert kind.runs == 3
    assert [json.loads(line).get("case") for line in path.read_text().splitlines()] == ["first", "second", None]


def test_the_modules_of_the_package_are_the_kinds() -> None:
    assert {"kills", "pairs", "disks", "servers", "search"} <= set(campaign._kinds())


def test_a_commands_end_is_read_from_what_it_said() -> None:
    trace = "Traceback (most recent call last):\n  File\nsqlalchemy.exc.OperationalError: full\nsegops: can't\n"
    assert (Ended(1, trace, 0).is_traceback, Ended(1, trace, 0).line) == (True, None)
    assert Ended(1, trace, 0).error == "sqlalchemy.exc.OperationalError: full"
    refused = Ended(75, "progress 3/4\nsegops: a line; a fix\n", 0)
    assert (refused.is_traceback, refused.line) == (False, "segops: a line; a fix")
    assert Ended(0, "segops: told", 0).line is None


def test_what_a_store_holds_twice_or_not_at_all_is_said(file_store: Path, tmp_path: Path) -> None:
    from tests.support.judged_candidates import add_version
    from tests.support.mlflow_server import own_names

    tracking = own_names()
    add_version(tmp_path, tracking, "a")
    assert store_problem(tmp_path / "mlflow.db", promoted=False) is None
    assert store_problem(tmp_path / "mlflow.db", promoted=True) == "0 champions instead of 1, 0 decisions instead of 1"
    add_version(tmp_path, tracking, "b")
    doubled = "2 runs instead of 1, 2 versions instead of 1, 2 models instead of 1"
    assert store_problem(tmp_path / "mlflow.db", promoted=False) == doubled
