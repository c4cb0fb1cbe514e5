"""Runs a command whose `segops` processes are forks of one that has imported before what they need.

The stages of a small dataset spend more time on imports than on their work. `run` starts a server in the background. It
imports, then waits at a Unix socket for what `hand_over` brings: arguments, folder, environment and open files of a
`segops` process, which waits for the fork that takes its place. A command that comes before the server is ready, after
a change of the code, or from another environment, does its own work as ever. Linux alone.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import os
import pkgutil
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import segops
from segops.cli.common import WARM
from segops.cli.hand_over import SIGNALS, STREAMS, hand_on_signals
from segops.errors import OneLineError
from segops.files import parse_json

# What the stages use of segops, and what they and it import late of other packages.
_PARTS = ("comparison", "evaluation", "export", "inference", "reports", "stages", "tracking", "training", "tuning")
_PACKAGES = (
    "great_expectations",
    "lightning_fabric",
    "matplotlib.backends.backend_agg",
    "mlflow.pytorch",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "networkx",
    "optuna",
    "pandas",
    "pyarrow.parquet",
    "skimage.filters",
    "skimage.measure",
    "torch._dynamo",
    "torch._export.serde.serialize",
    "torch.export._trace",
)
# Environment variables that may differ from those that the server began with: what it imported didn't read them.
_FREE = re.compile(rf"{WARM}|DVC_.*|PWD|OLDPWD|SHLVL|_")
_PATIENCE_S = 5.0  # with a process that has connected
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class Task(NamedTuple):
    """A command that another process brought.

    Attributes:
        streams: its stdin, stdout and stderr.
        arguments: those after `segops`.
        prefix: `sys.prefix` of the process that brought it.
    """

    streams: list[int]
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    prefix: str


def run(command: Sequence[str]) -> int:
    """Run a command beside a warm process, and return its exit code; signals are handed on to it."""
    if sys.platform != "linux":
        return subprocess.run(command, check=False).returncode  # noqa: S603
    with tempfile.TemporaryDirectory(prefix="segops-") as folder:
        address = str(Path(folder) / "warm")
        words = [sys.executable, "-m", "segops.cli.warm", address, str(os.getpid())]
        server = subprocess.Popen(words, stdin=subprocess.DEVNULL)  # noqa: S603
        try:
            process = subprocess.Popen(command, env={**os.environ, WARM: address})  # noqa: S603
            hand_on_signals(process.pid, (signal.SIGTERM, signal.SIGHUP))
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the command too
            return process.wait()
        finally:
            server.kill()
            server.wait()


class Server:
    """Waits at a socket for commands, forks for each, and tells who brought it how it ended.

    Args:
        address: of the socket.
        environment: of the process when it began to import.
    """

    def __init__(self, address: str, environment: dict[str, str]) -> None:
        self.environment = _decisive(environment)
        self.code = _code_times()
        self.processes: dict[socket.socket, int] = {}  # by the connection to who brought the command
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(address)
        self.listener.listen()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)

    def next_task(self) -> Task:
        """Serve for ever; a fork returns, with what it has to do."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    task = self._begin(self.listener.accept()[0])
                    if task is not None:
                        return task
                elif isinstance(key.fileobj, int):
                    self._end(key.fileobj, key.data)
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self.processes:  # who brought it ended
                    os.kill(self.processes[key.fileobj], signal.SIGKILL)
                    self.selector.unregister(key.fileobj)

    def _begin(self, connection: socket.socket) -> Task | None:
        """Take a command and fork for it; None in the server. What a fork would do in another way is sent back."""
        task = _received(connection)
        process = _fork() if task is not None and self._fits(task) else None
        if process == 0:
            connection.close()
            self._close()
            return task
        for stream in task.streams if task else ():
            os.close(stream)
        if process is None:
            connection.close()
            return None
        self.processes[connection] = process
        self.selector.register(connection, selectors.EVENT_READ)
        self.selector.register(os.pidfd_open(process), selectors.EVENT_READ, connection)
        with suppress(OSError):  # its end is noticed in the next round
            connection.sendall(f"{process}\n".encode())
        return None

    def _close(self) -> None:
        """Close what is the server's. An object that is left with a number would close a later file of that number."""
        for descriptor in [key.fd for key in self.selector.get_map().values() if isinstance(key.fileobj, int)]:
            os.close(descriptor)
        for own in (self.listener, *self.processes):
            own.close()
        self.selector.close()

    def _fits(self, task: Task) -> bool:
        """Tell whether a fork would do what the process that brought the task would."""
        same = task.prefix == sys.prefix and _decisive(task.environment) == self.environment
        return same and _code_times() == self.code

    def _end(self, descriptor: int, connection: socket.socket) -> None:
        """Tell how the fork of this file descriptor ended."""
        _, status = os.waitpid(self.processes.pop(connection), 0)
        self.selector.unregister(descriptor)
        os.close(descriptor)
        with suppress(OSError, KeyError):
            self.selector.unregister(connection)
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        connection.close()


def preload() -> None:
    """Import what the stages need."""
    from segops.tracking.store import import_mlflow

    gc.disable()
    import_mlflow()
    for name in (*_modules(), *_PACKAGES):
        with suppress(ImportError):  # of an extra that isn't installed
            importlib.import_module(name)
    gc.freeze()  # a collection in a fork would copy the pages that it shares
    gc.enable()


def _modules() -> list[str]:
    """List the modules of segops that the stages use."""
    parts = tuple(f"segops.{part}" for part in _PARTS)
    every = pkgutil.walk_packages(segops.__path__, "segops.")
    return [module.name for module in every if module.name.startswith(parts)]


def _received(connection: socket.socket) -> Task | None:
    """Return what a process brings; None of one that brings nothing that is known."""
    streams: list[int] = []
    connection.settimeout(_PATIENCE_S)
    try:
        _, streams, _, _ = socket.recv_fds(connection, 1, len(STREAMS))
        with connection.makefile("rb") as sent:
            task = Task(streams, **parse_json(sent.readline()))
    except (OSError, ValueError, TypeError):
        for stream in streams:
            os.close(stream)
        return None
    connection.settimeout(None)
    return task


def _decisive(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment variables that may change what is imported."""
    return {name: value for name, value in environment.items() if not _FREE.fullmatch(name)}


def _code_times() -> dict[str, int]:
    """Return when each loaded file of segops was written last, in ns; 0 for one that is gone."""
    files = [module.__file__ for name, module in sys.modules.items() if name.startswith("segops")]
    return {file: Path(file).stat().st_mtime_ns if Path(file).exists() else 0 for file in files if file}


def _fork() -> int:
    """Fork; the new process leads a group of its own, and signals wait until `become` knows what to do with them."""
    server = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    with warnings.catch_warnings():  # the other threads are of libraries that are made for it: OpenBLAS, jemalloc
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        _end_with(server)
        os.setpgid(0, 0)
    else:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return process


def _end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become(task: Task) -> None:
    """Take the place of the process that brought a command."""
    for stream, number in zip(task.streams, STREAMS, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    os.chdir(task.folder)
    os.environ.clear()
    os.environ.update(task.environment)
    del os.environ[WARM]
    sys.argv = ["segops", *task.arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def main() -> None:
    """Serve at an address until the parent, a process number, ends; each fork runs its command."""
    from segops.cli.main import main as command

    for number in SIGNALS:  # of the whole group; `run` ends this process
        signal.signal(number, signal.SIG_IGN)
    address, parent = sys.argv[1:]
    _end_with(int(parent))
    environment = dict(os.environ)
    try:
        preload()
        server = Server(address, environment)
    except (OSError, OneLineError):  # commands do their own work then, and say what is wrong
        return
    become(server.next_task())
    command()


if __name__ == "__main__":
    main()
