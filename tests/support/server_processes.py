"""A server as a process of a test: started, waited for until it answers, killed with all that it started."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(
    command: Sequence[str], environment: Mapping[str, str], log: Path, health: str, within_s: float = 180.0
) -> Iterator[None]:
    """Run a command in the folder of its log until the block ends; enter it when `health` answers."""
    process = start(command, environment, log)
    try:
        wait_for(process, log, health, within_s)
        yield
    finally:
        kill(process)


def start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """The process, in a group of its own; what it prints is added to its log."""
    with log.open("ab") as file:
        return subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, cwd=log.parent, start_new_session=True
        )


def wait_for(process: subprocess.Popen[bytes], log: Path, health: str, within_s: float) -> None:
    """Return when the server answers; fail with its log when it ends or takes longer."""
    deadline = time.monotonic() + within_s
    while not answers(health):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"no answer in {within_s:.0f} s: {log.read_text()}"
        time.sleep(0.2)


def answers(url: str) -> bool:
    """Whether somebody is there."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the whole group, as a crash does."""
    os.killpg(process.pid, 9)
    process.wait()
