"""Work in processes: the same results in the same order, one line where an item fails, and nobody left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from segops.data.parallel import in_order
from segops.errors import TryAgainError, UserError

SCRIPT = """
import sys, time
from pathlib import Path
from segops.data.parallel import in_order
from segops.errors import one_line_errors
from tests.data.test_parallel import sleep

if __name__ == "__main__":
    with one_line_errors():
        list(in_order(sleep, [Path(sys.argv[1]) / name for name in "ab"], 2))
"""


def twice(number: int) -> int:
    return 2 * number


def fails(number: int) -> int:
    if number == 3:
        error = UserError("c.png: not an image; remove it")
        error.details = ("1 file: not an image",)
        raise error
    time.sleep(0 if number < 3 else 60)
    return number


def dies(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(120)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_items_order(workers: int) -> None:
    assert list(in_order(twice, range(20), workers)) == list(range(0, 40, 2))
    assert not multiprocessing.active_children()


def test_an_item_that_fails_ends_the_others_with_its_own_line() -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=r"c\.png: not an image") as failed:
        list(in_order(fails, range(8), 2))
    assert failed.value.details == ("1 file: not an image",)
    assert not multiprocessing.active_children()
    assert time.monotonic() - began < 50, "the items that sleep for a minute were cut off"


def test_a_killed_worker_is_a_line_that_says_what_to_lower() -> None:
    with pytest.raises(TryAgainError, match=r"lower runtime\.workers"):
        list(in_order(dies, range(4), 2))


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them(ending: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "script.py"), str(tmp_path)], env=environment)
    files = [tmp_path / name for name in "ab"]
    workers: list[psutil.Process] = []
    while len(workers) < len(files):
        time.sleep(0.05)
        texts = [file.read_text() for file in files if file.exists()]
        workers = [psutil.Process(int(text)) for text in texts if text]
    parent.send_signal(ending)
    parent.wait(30)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
