"""Hands a command over to a warm process, if there is one; see `segops.cli.warm`."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from segops.cli.common import WARM

STREAMS = (0, 1, 2)
"""The file descriptors of stdin, stdout and stderr."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a terminal or a supervisor sends to a whole group, and a command gets from here."""


def hand_over(arguments: list[str]) -> int | None:
    """Let the warm process run a command as this process would, and return its exit code.

    Signals are handed on, and the command is killed when this process ends.

    Args:
        arguments: those after `segops`.

    Returns: the exit code, negative for a signal as in `subprocess`; None if no warm process takes the command.
    """
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("r", encoding="ascii") as answers:
        process = ""
        with suppress(OSError):  # it may not listen yet, or end just now
            connection.connect(os.environ[WARM])
            socket.send_fds(connection, [b"\n"], STREAMS)
            connection.sendall(_described(arguments))
            process = answers.readline()
        if not process:
            return None
        hand_on_signals(int(process), SIGNALS)
        try:
            return int(answers.readline() or -signal.SIGKILL)
        except ConnectionResetError:
            return -signal.SIGKILL  # its fork ends with the warm process


def _described(arguments: list[str]) -> bytes:
    """Write down in a line what the warm process has to know."""
    task = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ), "prefix": sys.prefix}
    return json.dumps(task).encode() + b"\n"


def hand_on_signals(process: int, numbers: tuple[signal.Signals, ...]) -> None:
    """Send these signals of this process to another one."""

    def send(number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(process, number)

    for number in numbers:
        signal.signal(number, send)


def end_as(code: int) -> NoReturn:
    """End this process as another one has ended."""
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
