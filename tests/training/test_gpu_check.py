"""The command of a first run on a GPU: what its table says, and when it fails."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu_check import Goal, agreement, check, scaled, table
from benchmarks.roofline import least_bytes

CPU = torch.device("cpu")


def test_a_goal_is_met_missed_or_skipped() -> None:
    verdicts = [
        Goal("a", 2.0, 1.5).verdict, Goal("a", 1.0, 1.5).verdict, Goal("a", 1.0, 1.5, least=False).verdict,
        Goal("a", 2.0, 1.5, least=False).verdict, Goal("a", None, 1.5).verdict, Goal("a", 2.0).verdict,
    ]  # fmt: skip
    assert verdicts == ["ok", "MISSED", "ok", "MISSED", "skipped", ""]


def test_a_step_that_fails_is_a_row_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> list[Goal]:
        raise RuntimeError("no kernel\nimage")

    others = ("gpu_tests", "training_steps", "two_trainings", "cache_dataset", "smp_unet", "nnunet", "tensorrt")
    for step in others:
        monkeypatch.setattr(gpu_check, step, lambda *_: [Goal("fine", 1.0)])
    monkeypatch.setattr(gpu_check, "agreement", fails)
    goals = check(CPU, 0.01)
    assert [goal.verdict for goal in goals] == ["MISSED", *[""] * len(others)]
    assert "MISSED RuntimeError: no kernel image" in table(goals)


def test_no_time_left_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "LIMIT_S", -1)
    assert {goal.note for goal in check(CPU, 0.01)} == {"no time left"}


def test_the_device_agrees_with_the_cpu() -> None:
    assert [goal.verdict for goal in agreement(CPU, 0.01)] == ["ok", "ok"]


def test_a_step_moves_each_number_of_each_layer_five_times() -> None:
    # depth 1, 2 filters, no norm: of 32x32 pixels two maps of 2 with ReLU; two of 4 at 16x16 with ReLU, and dropout;
    # one of 2 enlarged, dropout of the 4 that are joined, two of 2 with ReLU, the logit
    model = {"architecture": "unet", "base_filters": 2, "depth": 1}
    full, half = 32 * 32, 16 * 16
    numbers = full * (2 * 2 * 2) + half * (2 * 2 * 4 + 4) + full * (2 + 4 + 2 * 2 * 2 + 1)
    assert least_bytes(model, 32, 3, 2) == 5 * numbers * 3 * 2


def test_sizes_shrink_to_what_a_network_takes() -> None:
    assert [scaled(256, share, 32) for share in (1, 0.5, 0.2, 0.01)] == [256, 128, 48, 32]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_ends_in_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    gpu_check.main()
    assert capsys.readouterr().out.startswith("gpu-check: torch sees no CUDA device")


@pytest.mark.slow
def test_the_whole_command_runs_at_tiny_sizes_on_the_cpu() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--device", "cpu", "--share", "0.01"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "two trainings' images/s" in ended.stdout
    assert "MISSED" not in ended.stdout
