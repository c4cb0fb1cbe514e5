"""`segops warm`: a fork does what a process of its own would, ends as it would, and only where it would."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from segops.cli.common import WARM
from segops.cli.hand_over import _described
from segops.cli.warm import Server, Task, main, run
from tests.support.machine import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="`segops warm` is for Linux")

_PARAMS = """
ingest:
  source: synthetic://nuclei?n={images}&size=32&seed=7&tiles=2
  name: tiny
  mask_values: {{"0": background, "255": nucleus}}
candidates:
  small: {{model: {{architecture: intensity}}, input: {{resize: none}}}}
"""
_COMMAND = [sys.executable, "-c", "from segops.cli.main import main; main()"]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which commands are handed over to a warm process."""
    address = tmp_path_factory.mktemp("warm") / "socket"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": ""}
    server = subprocess.Popen(
        [sys.executable, "-m", "segops.cli.warm", str(address), str(os.getpid())], env=environment
    )
    try:
        wait_until(address.exists, server)
        yield environment | {WARM: str(address), "SERVER": str(server.pid)}
    finally:
        server.kill()
        server.wait()


def _segops(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in environment.items() if name != "SERVER"}
    return subprocess.Popen(
        [*_COMMAND, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _forks(environment: dict[str, str]) -> list[int]:
    return _children(int(environment["SERVER"]))


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _project(folder: Path, images: int = 8) -> Path:
    folder.mkdir()
    (folder / "params.yaml").write_text(_PARAMS.format(images=images))
    return folder


def test_a_fork_writes_and_prints_what_a_process_of_its_own_does(tmp_path: Path, warm: dict[str, str]) -> None:
    seen = []
    for name, environment in {"cold": {**warm, WARM: str(tmp_path / "nowhere")}, "warm": warm}.items():
        folder = _project(tmp_path / name)
        process = _segops(folder, environment, "ingest")
        if name == "warm":
            wait_until(lambda: _forks(warm), process)
        out, complaints = process.communicate(timeout=120)
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "run.json"
        }
        seen.append((process.returncode, out, complaints, files))
    assert seen[0][0] == 0
    assert len(seen[0][3]) > 3
    assert seen[0] == seen[1]


def test_a_users_mistake_is_its_line_and_exit_code(tmp_path: Path, warm: dict[str, str]) -> None:
    process = _segops(tmp_path, warm, "ingest")
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complaints.startswith("segops: params.yaml: no such file")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_fork(number: int, code: int, tmp_path: Path, warm: dict[str, str]) -> None:
    folder = _project(tmp_path / "project", 20_000)
    process = _segops(folder, warm, "ingest")
    wait_until(lambda: _forks(warm) and list(folder.rglob("*.tar")), process)
    os.kill(int(warm["SERVER"]), number)  # as of a terminal or a supervisor, which end a whole group
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert not _forks(warm)
    assert not (folder / "data/dataset").exists()


def test_a_signal_that_comes_with_the_fork_is_not_lost(tmp_path: Path, warm: dict[str, str]) -> None:
    for number in range(5):
        process = _segops(_project(tmp_path / str(number), 20_000), warm, "ingest")
        while not _forks(warm):  # without a pause, to meet its first moments
            assert process.poll() is None
        os.kill(_forks(warm)[0], signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode in (143, -signal.SIGTERM)


def test_a_fork_ends_with_the_process_that_it_stands_for(tmp_path: Path, warm: dict[str, str]) -> None:
    process = _segops(_project(tmp_path / "project", 20_000), warm, "ingest")
    wait_until(lambda: _forks(warm), process)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not _forks(warm))


def test_a_killed_fork_is_a_killed_command(tmp_path: Path, warm: dict[str, str]) -> None:
    process = _segops(_project(tmp_path / "project", 20_000), warm, "ingest")
    wait_until(lambda: _forks(warm), process)
    os.kill(_forks(warm)[0], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "sent", [b"", b"\n", b"no JSON\n", b"[" * 9999 + b"\n", b'{"arguments": []}\n', b"\xff\n", b"[1]\n"]
)
def test_what_is_no_task_is_sent_back_and_the_server_serves_on(
    sent: bytes, tmp_path: Path, warm: dict[str, str]
) -> None:
    with socket.socket(socket.AF_UNIX) as client, (tmp_path / "file").open("w") as file:
        client.connect(warm[WARM])
        socket.send_fds(client, [b"\n"], [file.fileno()] * 3)
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    process = _segops(tmp_path, warm, "ingest")
    process.communicate(timeout=60)
    assert process.returncode == 1


def test_another_environment_makes_a_command_do_its_own_work(tmp_path: Path, warm: dict[str, str]) -> None:
    process = _segops(_project(tmp_path / "project"), warm | {"OMP_NUM_THREADS": "3"}, "ingest")
    while process.poll() is None:
        assert not _forks(warm)
        time.sleep(0.05)
    process.communicate()
    assert process.returncode == 0


def test_what_may_change_an_import_makes_a_task_unfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(str(tmp_path / "socket"), {"A": "1", "DVC_STAGE": "x"})
    task = Task([], [], "", {"A": "1", "DVC_STAGE": "train", WARM: "socket"}, sys.prefix)
    try:
        assert server._fits(task)
        assert not server._fits(task._replace(prefix="/elsewhere"))
        assert not server._fits(task._replace(environment={"A": "2"}))
        monkeypatch.setattr("segops.cli.warm._code_times", lambda: {"segops/files.py": 1})
        assert not server._fits(task)
    finally:
        server.selector.close()
        server.listener.close()


def test_a_fork_leaves_no_object_behind_that_closes_a_later_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did: the number of the server's socket was that of a lock, and the lock's file was closed."""
    server: Server | None = Server(str(tmp_path / "socket"), dict(os.environ))
    assert server is not None
    monkeypatch.setattr("segops.cli.warm._fork", lambda: 0)
    monkeypatch.setenv(WARM, str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX) as client, (tmp_path / "file").open("w") as file:
        client.connect(str(tmp_path / "socket"))
        socket.send_fds(client, [b"\n"], [file.fileno()] * 3)
        client.sendall(_described(["ingest"]))
        task = server.next_task()
        assert task.arguments == ["ingest"]
        for stream in task.streams:
            os.close(stream)
    files = [(tmp_path / f"later{number}").open("w") for number in range(8)]
    server = None
    gc.collect()
    for file in files:
        file.write("still open")
        file.close()


@pytest.mark.parametrize("case", ["long", "store"])
def test_a_server_that_cannot_serve_ends_in_silence(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    address = tmp_path / ("x" * 120 if case == "long" else "socket")  # a socket's name has at most 107 bytes
    monkeypatch.setattr("segops.cli.warm._end_with", lambda parent: None)
    if case == "long":
        monkeypatch.setattr("segops.cli.warm.preload", lambda: None)
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://")  # names no host
    monkeypatch.setattr(sys, "argv", ["warm", str(address), "1"])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        gc.enable()
    assert capfd.readouterr() == ("", "")


def test_the_command_ends_as_it_would_alone_and_leaves_no_server(tmp_path: Path) -> None:
    script = f"{sys.executable} -c \"import os; print(os.environ['{WARM}'])\" > address; exit 7"
    process = _segops(tmp_path, dict(os.environ), "warm", "sh", "-c", script)
    process.communicate(timeout=60)
    assert process.returncode == 7
    assert not Path((tmp_path / "address").read_text().strip()).parent.exists()


def test_the_server_of_a_killed_command_ends_too(tmp_path: Path) -> None:
    process = _segops(tmp_path, dict(os.environ), "warm", "sleep", "60")
    wait_until(lambda: len(_children(process.pid)) == 2, process)
    server, other = sorted(
        _children(process.pid), key=lambda child: b"segops.cli.warm" not in Path(f"/proc/{child}/cmdline").read_bytes()
    )
    process.kill()
    wait_until(lambda: not Path(f"/proc/{server}").exists())
    os.kill(other, signal.SIGKILL)
    process.communicate()


def test_another_system_runs_the_command_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert run([sys.executable, "-c", f"import os; exit(3 if '{WARM}' in os.environ else 4)"]) == 4
