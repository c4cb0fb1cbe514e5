"""segops ui: the addresses it prints, the browser it opens or leaves alone, and the server that it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
import webbrowser
from pathlib import Path

import pytest

from segops.commands.ui import addresses, ui
from segops.errors import UserError
from segops.tracking.pages import Links
from segops.tracking.ui_server import serving
from tests.support.mlflow_server import MlflowServer, free_port, own_names

pytest_plugins = ["tests.support.mlflow_stores"]

LINKS = Links(runs="#/experiments/1/runs", charts="#/experiments/1/charts", model=None, comparison="#/c")


def test_addresses_begin_with_the_candidates_and_leave_out_what_is_not_there() -> None:
    assert addresses("http://127.0.0.1:5000/", LINKS) == {
        "candidates": "http://127.0.0.1:5000/#/experiments/1/runs",
        "charts and pictures": "http://127.0.0.1:5000/#/experiments/1/charts",
        "comparison": "http://127.0.0.1:5000/#/c",
    }
    assert list(addresses("http://127.0.0.1:5000", None)) == ["MLflow"]


def test_a_teams_server_is_opened_and_not_served(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("DISPLAY", ":0")
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    (tmp_path / "index.html").touch()
    shown: list[dict[str, str]] = []
    for browse in (True, False):
        ui(own_names(), port=1, comparison=tmp_path, browse=browse, show=shown.append)
    expected = {
        "MLflow": f"{server.uri}/#/experiments?workflowType=machine_learning",
        "our comparison page": (tmp_path / "index.html").as_uri(),
    }
    assert shown == [expected, expected]
    assert opened == [expected["MLflow"]]


def test_a_busy_port_is_one_line(file_store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        fix = f"port {port} can't be used .*; choose another: `make ui PORT={port + 1}`"
        with pytest.raises(UserError, match=fix), serving(port):
            pass


@pytest.mark.slow
def test_the_project_s_own_store_is_served_until_ctrl_c(file_store: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        "{ingest: {source: unused}, candidates: {net: {model: {architecture: unet}}}}"
    )
    port = free_port()
    code = f"import sys; sys.argv = ['segops', 'ui', '--no-browser', '--port', '{port}']\n"
    code += "from segops.cli.main import main; main()"
    words = [sys.executable, "-c", code]
    with subprocess.Popen(
        words, cwd=tmp_path, env={**os.environ, "DVC_ROOT": str(tmp_path)}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.split()[-1] == f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
