"""How torchrun's processes meet at each start, and leave."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from segops.errors import TryAgainError
from segops.training.torchrun import meet

# The second is killed in the first start. In the next one the first comes late, and works on when the others are done.
WORKER = """
import os, pathlib, signal, sys, time, torch
from segops.training.torchrun import together
rank, starts = int(os.environ["RANK"]), pathlib.Path(sys.argv[1])
first_start = not (starts / "1").exists()
if rank == 0 and not first_start:
    time.sleep(1)
with together("cpu"):
    if first_start and rank == 1:
        (starts / "1").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    ones = torch.ones(1)
    torch.distributed.all_reduce(ones)
    assert ones == 3
    if rank == 0:
        time.sleep(1)
        (starts / "done").touch()
assert (starts / "done").exists()
"""


def begin(pool: ThreadPoolExecutor, store: HashStore, *ranks: int) -> dict[int, Future[str]]:
    patience = timedelta(seconds=60)
    return {rank: pool.submit(meet, store, rank, 3, patience=patience) for rank in ranks}


@pytest.mark.parametrize("ahead", [(1,), (1, 2), (0,), ()], ids=str)
def test_every_start_meets_anew_whoever_is_ahead(ahead: tuple[int, ...]) -> None:
    """The store is that of all starts, as torchrun's is: answers and names of earlier ones are still in it."""
    store, names = HashStore(), set()
    with ThreadPoolExecutor(3) as pool:
        for _ in range(2):
            early = begin(pool, store, *ahead)
            time.sleep(0.2 if early else 0)  # in which they read what is there
            assert not any(future.done() for future in early.values())
            late = begin(pool, store, *{0, 1, 2}.difference(ahead))
            (name,) = {future.result() for future in (early | late).values()}
            names.add(name)
    assert len(names) == 2


def test_a_process_that_waits_for_nobody_says_so_and_ends() -> None:
    store = HashStore()
    with ThreadPoolExecutor(3) as pool:
        for future in begin(pool, store, 0, 1, 2).values():
            future.result()
    for rank in (0, 1):
        with pytest.raises(TryAgainError, match=rf"^torchrun: process {rank} of 3 waited 0\.3 s for the others; see "):
            meet(store, rank, 3, patience=timedelta(seconds=0.3))


@pytest.mark.slow
def test_a_killed_process_is_started_again_beside_new_ones_and_none_leaves_early(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "--max-restarts=1",
        "--monitor-interval=0.1", str(tmp_path / "worker.py"), str(tmp_path),
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, check=False, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "done").exists()
