"""The one table of ratios: what a row says, and what becomes of the table where a part fails."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.__main__ import PARTS, run
from benchmarks.ratios import Ratio, quotients, table


def test_a_row_has_the_median_of_the_rounds_with_the_least_and_the_largest() -> None:
    took_ms = {"plain": [100.0, 300.0, 120.0], "ours": [20.0, 30.0, 40.0]}

    row = Ratio("predict", "ours", "30 ms", "plain", quotients(took_ms["plain"], took_ms["ours"]))

    assert table([row]).splitlines() == [
        "| what | variant | measured | ratio to | median | least | largest | goal |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| predict | ours | 30 ms | plain | 5.00 | 3.00 | 10.00 |  |",
    ]


@pytest.mark.parametrize(("goal", "verdict"), [(5.0, "5, met"), (5.5, "5.5, missed"), (None, "")])
def test_a_goal_is_held_against_the_median(goal: float | None, verdict: str) -> None:
    assert Ratio("predict", "ours", "30 ms", "plain", (3.0, 5.0, 10.0), goal).cells()[-1] == verdict


def test_rounds_that_dont_pair_are_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        quotients([1.0, 2.0], [1.0])


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_ratios(part: str) -> None:
    assert callable(import_module(f"benchmarks.{part}").ratios)


def test_a_part_that_fails_is_named() -> None:
    found, failed = run(["no_such_part"], rounds=1)

    assert found == []
    assert failed == {"no_such_part": "ModuleNotFoundError: No module named 'benchmarks.no_such_part'"}


def test_an_unknown_part_is_a_line(root: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "speed"], cwd=root, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert f"no part speed; there are {', '.join(PARTS)}" in ended.stderr
