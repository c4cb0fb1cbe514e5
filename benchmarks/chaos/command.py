"""Runs `segops` commands as processes that are quick to start, many times: forked from one that has imported all."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_HEAVY = (
    "torch", "mlflow", "pandas", "pyarrow.parquet", "safetensors.torch", "optuna", "great_expectations", "sklearn",
    "lightning_fabric", "matplotlib.pyplot", "mlflow.pytorch", "mlflow.store.tracking.sqlalchemy_store",
    "segops.training.job", "segops.tuning.search", "segops.tracking.model", "segops.reports.pages",
)  # fmt: skip
LIMIT_S = 240.0  # of a command: longer is a hang
_LOOK_S = 0.01


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal that killed it), and what it said on stderr."""

    code: int
    said: str
    seconds: float

    @property
    def is_traceback(self) -> bool:
        """Whether it ended with a traceback of Python's."""
        return "Traceback (most recent call last)" in self.said

    @property
    def error(self) -> str:
        """The last line of the last traceback."""
        ends = re.findall(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b.*$", self.said, re.MULTILINE)
        return str(ends[-1])[:300] if ends else self.said.strip()[-300:]

    @property
    def line(self) -> str | None:
        """The one line that refuses, where it is one."""
        lines = [line for line in self.said.splitlines() if line.startswith("segops: ")]
        return lines[-1] if self.code > 0 and not self.is_traceback and lines else None


class Command:
    """A running command."""

    def __init__(
        self, arguments: list[str], folder: Path, environment: Mapping[str, str], before: Callable[[], object] | None
    ) -> None:
        file, name = tempfile.mkstemp(prefix="chaos-", suffix=".log")  # not beside the project: its disk may be full
        os.close(file)
        self._log = Path(name)
        self._began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _be(arguments, folder, environment, before, self._log)

    def ended(self) -> Ended:
        """Wait for the end; a command that hangs is killed, and said to have been by SIGALRM."""
        code = None
        while code is None:
            number, status = os.waitpid(self.pid, os.WNOHANG)
            if number:
                code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() - self._began > LIMIT_S:
                self.kill(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                code = -signal.SIGALRM
            else:
                time.sleep(_LOOK_S)
        said = self._log.read_text(encoding="utf-8", errors="replace")
        self._log.unlink()
        return Ended(code, said, time.monotonic() - self._began)

    def kill(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)


def start(
    arguments: list[str],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], object] | None = None,
) -> Command:
    """Start `segops ARGUMENTS` in a project.

    Args:
        environment: variables beside a plain environment's.
        before: called in the process before the command.
    """
    for name in _HEAVY:
        importlib.import_module(name)
    return Command(arguments, folder, environment or {}, before)


def run(
    arguments: list[str],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], object] | None = None,
) -> Ended:
    """Run a command to its end."""
    return start(arguments, folder, environment=environment, before=before).ended()


def _be(
    arguments: list[str], folder: Path, environment: Mapping[str, str], before: Callable[[], object] | None, log: Path
) -> NoReturn:
    """Become the command, in the forked process."""
    code = 1
    try:
        os.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE"):
            os.environ.pop(name, None)
        os.environ.update(environment)
        output = os.open(log, os.O_WRONLY)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(output, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        sys.argv = ["segops", *arguments]
        if before is not None:
            before()
        from segops.cli.main import main

        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
