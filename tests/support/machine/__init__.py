"""What tests set of the machine, for their own process and for those that they start."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segops.files import write_text
from tests.support.machine import sitecustomize

FOLDER = Path(sitecustomize.__file__).parent


def python_path() -> str:
    """PYTHONPATH with which a process sees the machine that tests see."""
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return os.pathsep.join([str(FOLDER), *(path for path in given if path != str(FOLDER))])


class AllowedEpochs:
    """How many epochs a process trains before it waits in mid-epoch; it has to start with `environment`."""

    def __init__(self, file: Path, epochs: int) -> None:
        self._file = file
        self.allow(epochs)
        self.environment = {sitecustomize.EPOCHS: str(file), "PYTHONPATH": python_path()}

    def allow(self, epochs: int) -> None:
        """From now on."""
        write_text(self._file, str(epochs))


@contextmanager
def started(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A quiet process with these additions to the environment, which doesn't outlive the block."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, stdout=quiet, stderr=quiet) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], object], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait, while the process lives if there is one; a machine may be slow, so only pytest's own limit ends it."""
    while not condition():
        assert process is None or process.poll() is None, "it ended too early"
        time.sleep(0.05)
