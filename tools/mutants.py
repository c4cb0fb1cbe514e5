"""Change the code that decides, one place at a time, and see whether a test fails: `make mutants`.

    python -m tools.mutants [--sample 170] [--seed 0] [--minutes 60] [--workers 2] [--only decoders masks.py:34]

Each mutant runs in a fork of a process that has the heavy packages already, against the tests that DECIDES names for
its module, until the first one fails. Processes that tests start see the code as it is. A test run that lasts five
times as long as without a change has failed too. Exit code 1 where fewer than 92 % of the sample die.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tools.mutations import Mutant, mutants_of
from tools.tested import DECIDES, EQUIVALENT

ROOT = Path(__file__).resolve().parents[1]
LEAST_RATE = 0.92
_PRELOADED = (
    "torch", "monai.losses", "monai.inferers", "pandas", "pyarrow.parquet", "scipy.stats", "scipy.ndimage",
    "sklearn.metrics", "skimage.filters", "skimage.morphology", "imagecodecs", "tifffile", "PIL.Image", "pydantic",
    "hypothesis", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store",
    "alembic.command", "cryptography.hazmat.primitives.serialization", "optuna", "safetensors.torch",
    "lightning_fabric", "kfp.client", "pytest", "pytest_timeout",
)  # fmt: skip
_PYTEST = (
    "-x", "-q", "--hypothesis-seed=0",
    "-p", "no:cacheprovider", "-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin",
)  # fmt: skip


class _Changed(SourceFileLoader):
    """Loads a module from a mutant's text."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType | None:
        return compile(self._text, self.path, "exec")


class _Finder(MetaPathFinder):
    """Finds the mutant's module alone."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = mutant.path.removeprefix("src/").removesuffix(".py").replace("/", ".")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        file = str(ROOT / self._mutant.path)
        return spec_from_file_location(fullname, file, loader=_Changed(fullname, file, self._mutant.text))


def _in_fork(tests: Sequence[str], mutant: Mutant | None, log: Path) -> int:
    """Start pytest in a fork; returns its process id."""
    if pid := os.fork():
        return pid
    os.setsid()
    out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    status: Any = 99
    try:
        if mutant is not None:
            sys.meta_path.insert(0, _Finder(mutant))
        import pytest

        status = pytest.main([*_PYTEST, *tests])
    finally:
        os._exit(int(status))


def _wait(pid: int, seconds: float) -> int:
    """The exit status; -1 after the time, when the fork and all that it started are killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


def _run(mutants: Sequence[Mutant], logs: Path, deadline: float) -> Iterator[tuple[Mutant, bool]]:
    """Yield each mutant and whether a test killed it, module by module; ends at the deadline."""
    seconds: dict[str, float] = {}
    for mutant in sorted(mutants, key=lambda one: (one.path, one.line)):
        if time.monotonic() > deadline:
            return
        tests = DECIDES[mutant.path]
        if mutant.path not in seconds:
            began = time.monotonic()
            log = logs / f"{os.getpid()}.unchanged.log"
            if status := _wait(_in_fork(tests, None, log), 1200):
                raise SystemExit(f"{mutant.path}: its tests fail without a change ({status}): {log}")
            seconds[mutant.path] = time.monotonic() - began
        limit_s = 5 * seconds[mutant.path] + 30
        yield mutant, _wait(_in_fork(tests, mutant, logs / f"{os.getpid()}.log"), limit_s) != 0


def _share(mutants: Sequence[Mutant], logs: Path, deadline: float, pipe: int) -> None:
    """A worker's part, a line an answer."""
    for name in _PRELOADED:
        __import__(name)
    for mutant, killed in _run(mutants, logs, deadline):
        os.write(pipe, f"{'killed' if killed else 'survived'}\t{mutant.path}:{mutant.line}\t{mutant.change}\n".encode())


def _in_workers(sample: Sequence[Mutant], workers: int, logs: Path, deadline: float) -> Iterator[list[str]]:
    """Whole modules go to one worker, so that each module's unchanged tests run once."""
    modules = sorted({one.path for one in sample}, key=lambda path: -sum(one.path == path for one in sample))
    read, write = os.pipe()
    for index in range(workers):
        part = [one for one in sample if modules.index(one.path) % workers == index]
        if os.fork() == 0:
            os.close(read)
            _share(part, logs, deadline, write)
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as lines:
        for line in lines:
            yield line.rstrip("\n").split("\t")


def _sample(count: int, seed: int, only: Sequence[str]) -> tuple[list[Mutant], int]:
    """So many mutants that can be told apart, and how many there are; `only` narrows them."""
    every = [one for path in DECIDES for one in mutants_of(path, (ROOT / path).read_text())]
    if stale := set(EQUIVALENT) - {one.key for one in every}:
        raise SystemExit(f"tools/tested.py: no such mutant any more: {sorted(stale)}")
    every = [one for one in every if any(part in f"{one.path}:{one.line}" for part in only)]
    told_apart = [one for one in every if one.key not in EQUIVALENT]
    return random.Random(seed).sample(told_apart, min(count, len(told_apart))), len(every)


def main() -> None:
    """Run a sample and print who survived, and the rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=170)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[""], help="parts of path:line, such as gate.py:124")
    parser.add_argument("--logs", type=Path, default=ROOT / ".segops/mutants")
    given = parser.parse_args()
    given.logs.mkdir(parents=True, exist_ok=True)
    # A process that starts in a second instead of in three: no plugins but those named, and one empty store for all.
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.environ["SEGOPS_EMPTY_STORE"] = str(given.logs / f"empty-{os.getpid()}.db")
    sample, every = _sample(given.sample, given.seed, given.only)
    tried, killed = Counter[str](), Counter[str]()
    for answer, where, change in _in_workers(sample, given.workers, given.logs, time.monotonic() + 60 * given.minutes):
        module = where.partition(":")[0]
        tried[module] += 1
        killed[module] += answer == "killed"
        print(f"{answer:9}{where}  {change}", flush=True)
    print("\n| module | tried | killed |\n|---|---|---|")
    for module in sorted(tried):
        print(f"| `{module.removeprefix('src/segops/')}` | {tried[module]} | {killed[module]} |")
    rate = killed.total() / max(1, tried.total())
    print(f"{killed.total()} of {tried.total()} mutants killed, {rate:.1%}; {every} in all, ", end="")
    print(f"{len(sample)} in the sample, {len(EQUIVALENT)} known to be equivalent")
    sys.exit(rate < LEAST_RATE or tried.total() < len(sample))


if __name__ == "__main__":
    main()
