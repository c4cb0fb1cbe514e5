"""Progress: few lines where nobody watches, none when quiet, and what a person needs always."""

from __future__ import annotations

import sys
import time

import pytest

from segops import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still; a test sets it."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_ten_seconds_and_the_last(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = progress.Lines(first=True)
    for epoch in range(1, 31):
        clock[0] += 1
        lines.note(f"epoch {epoch}", last=epoch == 30)
    assert capsys.readouterr().err.split("\n") == ["epoch 1", "epoch 12", "epoch 23", "epoch 30", ""]


def test_quiet_leaves_out_progress_but_no_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(progress.QUIET, "1")
    progress.note("epoch 1")
    assert list(progress.track([1, 2], "work")) == [1, 2]
    progress.say("MLflow is away")
    assert capsys.readouterr().err == "MLflow is away\n"


def test_under_dvc_no_bar_is_drawn_even_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("DVC_STAGE", "prepare")
    assert list(progress.track(range(50), "prepare")) == list(range(50))
    assert capsys.readouterr().err == ""


def test_the_time_left_follows_from_the_steps_that_this_process_did(clock: list[float]) -> None:
    pace = progress.Pace(9)
    clock[0] += 4
    assert pace.step(6) == (12, False)  # steps 1 to 5 were another process's
    clock[0] += 8  # 12 s for two steps
    assert str(pace.step(7)) == "12 s left"
    assert str(pace.step(9)) == ""


def test_cheap_steps_tell_the_least_and_those_after_them_are_counted_without_them(clock: list[float]) -> None:
    pace = progress.Pace(6, cheap=2)
    clock[0] += 1
    assert str(pace.step(1)) == "at least 5 s left"
    clock[0] += 1
    assert str(pace.step(2)) == "at least 4 s left"
    clock[0] += 4
    assert pace.step(3) == (12, False)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3540, "59 min"), (3900, "1 h 05 min")]
)
def test_a_duration_is_as_fine_as_one_plans_by(seconds: float, words: str) -> None:
    assert progress.duration(seconds) == words
