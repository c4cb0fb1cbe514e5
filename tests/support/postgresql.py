"""A real PostgreSQL in a folder of its own; `postgresql` is a fixture that a test module names in `pytest_plugins`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.support.mlflow_server import free_port


class Server:
    """A PostgreSQL server on a free port of this machine; its superuser is `segops`.

    The cluster's own encoding is SQL_ASCII, as a locale C gives it: databases that must hold text say UTF8 themselves.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._as_user = folder, [] if os.getuid() else ["runuser", "-u", "postgres", "--"]
        if self._as_user:
            folder.chmod(0o755)
            shutil.chown(folder, "postgres", "postgres")
        self.port = free_port()
        cluster = ["-D", str(folder / "data"), "-U", "segops", "-A", "trust", "--no-sync", "--no-locale"]
        self._run("initdb", *cluster, "--encoding", "SQL_ASCII")

    def _run(self, *command: str) -> None:
        subprocess.run(
            [*self._as_user, shutil.which(command[0]) or command[0], *command[1:]],
            cwd=self.folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-w", "start")

    def make(self, database: str) -> None:
        """An empty database in UTF-8."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "segops"]
        self._run("createdb", *where, "--encoding", "UTF8", "--template", "template0", database)

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    @property
    def url(self) -> str:
        """Of an empty database that holds text."""
        return f"postgresql://segops@127.0.0.1:{self.port}/segops"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    """A running server; skips where there is none."""
    pytest.importorskip("psycopg", reason="needs the driver of PostgreSQL, psycopg")
    if shutil.which("initdb") is None:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl: apt-get install postgresql, its bin folder on the PATH")
    if os.getuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL refuses to run as root, and there is no runuser")
    folder = Path(mkdtemp(prefix="segops-pg-"))  # a socket's path may have 107 characters
    server = Server(folder)
    server.start()
    server.make("segops")
    yield server
    server.stop()
    shutil.rmtree(folder)
