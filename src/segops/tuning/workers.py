"""Runs a search's worker processes on this machine, and recovers a dead worker's trial."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

from optuna.storages import BaseStorage

from segops.contracts.trials import TrialRecord
from segops.errors import TRY_AGAIN, OneLineError, TryAgainError, UserError
from segops.files import project_root
from segops.locks import hold
from segops.progress import say
from segops.tuning import study as studies
from segops.tuning.search import seconds_left, work
from segops.tuning.storage import FOLDER, answering, open_storage, storage_url
from segops.tuning.study import Search

_LOOK_S = 1.0


def run(search: Search, after_trial: Callable[[list[TrialRecord]], None]) -> BaseStorage:
    """Run a search to its end, or resume it; a finished search isn't run again.

    A single worker runs in this process. Several are processes of their own, each with its share of `runtime.threads`;
    their trials depend on who was faster, and their weights on the share.

    Args:
        after_trial: called now and then with all trials so far.

    Returns: the storage.
    Raises: UserError where another search of this study runs, or a worker ended with an error.
    """
    storage = open_storage(search.tune)
    alone = storage_url(search.tune) is None
    lock = _folder() / f"{search.study}.lock"
    busy = f"study {search.study} is already being searched by {{holder}}; wait for it or stop it"

    def look() -> None:
        after_trial(answering(search.tune, lambda: studies.records(storage, search)))

    with hold(lock, refuse=busy) if alone else nullcontext():
        if alone:
            _recover(storage, search)
        answering(search.tune, lambda: studies.create(storage, search))
        while _unfinished(storage, search):
            if search.tune.workers == 1:
                work(search, after_trial=look)
            else:
                _in_processes(search, look)
            if alone:
                _recover(storage, search)
    look()
    return storage


def _unfinished(storage: BaseStorage, search: Search) -> bool:
    """Return whether a trial within the budget has no end yet, and time is left for it."""
    every = answering(search.tune, lambda: studies.load(storage, search).get_trials(deepcopy=False))
    trials = [trial for trial in every if trial.user_attrs.get(studies.SLOT, 0) < search.search.trials]
    return any(not trial.state.is_finished() for trial in trials) and seconds_left(search, trials) > 0


def _recover(storage: BaseStorage, search: Search) -> None:
    """Let a killed process's trials wait again, once none of its workers lives."""
    try:
        with ExitStack() as workers:
            for lock in sorted(_folder().glob(f"{search.study}.worker-*.lock")):
                workers.enter_context(hold(lock))
            numbers = studies.recover(storage, search)
    except studies.NoStudyError:
        return
    if numbers:
        say(f"{search.study}: trials {', '.join(map(str, numbers))} were cut off and are tried again")


def _folder() -> Path:
    return project_root() / FOLDER


def _in_processes(search: Search, look: Callable[[], None]) -> None:
    """Run a round of workers as processes, until the last has ended. Raises UserError where a worker failed."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, search.runtime.threads // search.tune.workers)
    share = replace(search, runtime=search.runtime.model_copy(update={"threads": threads}))
    processes: list[BaseProcess] = [
        context.Process(target=_worker, args=(share, device, os.getpid(), index), name=f"worker {index}")
        for index, device in enumerate(_devices(search))
    ]
    for process in processes:
        process.start()
    try:
        while any(process.is_alive() for process in processes):
            for process in processes:
                process.join(_LOOK_S / len(processes))
            look()
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            process.join()
    for process in processes:
        if process.exitcode is not None and process.exitcode < 0:
            say(f"{search.study}: {process.name} was killed by {signal.Signals(-process.exitcode).name}")
    if codes := {process.exitcode for process in processes if process.exitcode is not None and process.exitcode > 0}:
        kind = TryAgainError if codes == {TRY_AGAIN} else UserError
        raise kind(f"{search.study}: a worker ended with an error; its own words stand above")


def _devices(search: Search) -> list[str | None]:
    """Return the GPU that each worker sees, by turns; None where there are fewer than two."""
    import torch

    workers = search.tune.workers
    if search.runtime.device not in ("auto", "cuda") or torch.cuda.device_count() < 2:
        return [None] * workers
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    names = visible.split(",")
    return [names[index % len(names)] for index in range(workers)]


def _worker(search: Search, device: str | None, parent: int, index: int) -> None:
    """Work in a process of its own, which holds a lock that a new search waits for.

    It ends at an epoch's end when its parent is gone.
    """
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    signal.signal(signal.SIGTERM, _terminated)
    try:
        with hold(_folder() / f"{search.study}.worker-{index}.lock"):
            work(search, stopped=lambda: os.getppid() != parent)
    except OneLineError as error:
        print(f"segops: {error}", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(0)


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(0)
