"""A person at a terminal: `segops` in a process of its own, whose standard input is a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

_PATIENCE_S = 120.0


class Person:
    """Has started a command in a folder, sees what it says and types.

    Attributes:
        stdout, stderr: what the command has said so far.
    """

    def __init__(self, folder: Path, command: str) -> None:
        self._keyboard, terminal = pty.openpty()
        name = command.replace(" ", "_")
        self._said = {kind: folder / f"{name}.{kind}" for kind in ("stdout", "stderr")}
        program = [sys.executable, "-c", "from segops.cli.main import main; main()", *command.split()]
        with self._said["stdout"].open("wb") as out, self._said["stderr"].open("wb") as err:
            self._process = subprocess.Popen(program, cwd=folder, stdin=terminal, stdout=out, stderr=err)
        os.close(terminal)

    @property
    def stdout(self) -> str:
        return self._said["stdout"].read_text()

    @property
    def stderr(self) -> str:
        return self._said["stderr"].read_text()

    def wait_for(self, text: str) -> None:
        """Return once the command has said it."""
        deadline = time.monotonic() + _PATIENCE_S
        while text not in self.stdout:
            assert self._process.poll() is None, self.stderr
            assert time.monotonic() < deadline, f"{self.stdout}{self.stderr}"
            time.sleep(0.05)

    def types(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    def ends(self) -> int:
        """The exit code."""
        code = self._process.wait(_PATIENCE_S)
        os.close(self._keyboard)
        return code
