"""A step's process is started again where that may help, and only there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine import wait_until

# Writes a line a start, then ends as its file of endings says for that start.
STEP = """
import os, signal, sys
from pathlib import Path
folder = Path(sys.argv[1])
with (folder / "starts").open("a") as file:
    file.write("started\\n")
endings = (folder / "endings").read_text().split()
ending = endings[len((folder / "starts").read_text().splitlines()) - 1]
if ending.startswith("SIG"):
    os.kill(os.getpid(), getattr(signal, ending))
sys.exit(int(ending))
"""
# Waits for SIGTERM and cleans up, as a step does.
WAITING = """
import sys, time
from pathlib import Path
from segops.errors import one_line_errors
folder = Path(sys.argv[1])
with one_line_errors():
    try:
        (folder / "ready").touch()
        time.sleep(60)
    finally:
        time.sleep(0.3)
        (folder / "clean").touch()
"""


def supervised(folder: Path, script: str, *, retries: int = 2, pause_s: float = 0) -> subprocess.Popen[str]:
    (folder / "step.py").write_text(script)
    environment = {**os.environ, "SEGOPS_RETRIES": str(retries), "SEGOPS_RETRY_PAUSE_S": str(pause_s)}
    return subprocess.Popen(
        [sys.executable, "-m", "components.supervised", str(folder / "step.py"), str(folder)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("endings", "code", "starts"),
    [
        ("0", 0, 1),
        ("SIGKILL 0", 0, 2),
        ("75 SIGSEGV 0", 0, 3),
        ("75 75 75", 75, 3),
        ("SIGKILL SIGKILL SIGKILL", 137, 3),
        ("1", 1, 1),  # a user's error
        ("SIGKILL 1", 1, 2),
        ("3", 3, 1),
    ],
)
def test_only_a_signal_or_a_passing_failure_starts_a_step_again(
    tmp_path: Path, endings: str, code: int, starts: int
) -> None:
    (tmp_path / "endings").write_text(endings)
    step = supervised(tmp_path, STEP)
    _, said = step.communicate(timeout=60)
    assert step.returncode == code
    assert len((tmp_path / "starts").read_text().splitlines()) == starts
    assert said.count("starts again in") == starts - 1


def test_each_retry_is_said_with_its_reason_and_pause(tmp_path: Path) -> None:
    (tmp_path / "endings").write_text("SIGKILL 75 0")
    _, said = supervised(tmp_path, STEP, pause_s=0.01).communicate(timeout=60)
    assert said.splitlines() == [
        "the step was killed by SIGKILL; it starts again in 0.01 s (retry 1 of 2)",
        "the step ended with exit code 75: trying again may help; it starts again in 0.02 s (retry 2 of 2)",
    ]


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_terminated_step_cleans_up_and_is_not_started_again(tmp_path: Path, whole_group: bool) -> None:
    step = supervised(tmp_path, WAITING)
    wait_until((tmp_path / "ready").exists, step)
    if whole_group:  # as Argo's executor sends it: the step gets it twice
        os.killpg(step.pid, signal.SIGTERM)
    else:
        step.terminate()
    step.communicate(timeout=60)
    assert step.returncode == 128 + signal.SIGTERM
    assert (tmp_path / "clean").exists()


def test_a_step_that_is_ended_while_it_waits_for_its_retry_is_not_started_again(tmp_path: Path) -> None:
    (tmp_path / "endings").write_text("75 0")
    step = supervised(tmp_path, STEP, pause_s=60)
    assert step.stderr is not None
    assert "starts again in 60 s" in step.stderr.readline()
    step.terminate()
    step.communicate(timeout=60)
    assert step.returncode == 75
    assert (tmp_path / "starts").read_text() == "started\n"
