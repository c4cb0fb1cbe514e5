"""The layer that infra/mlflow puts around MLflow's app for workspaces, before the real server."""

from __future__ import annotations

import importlib
import threading
import time
from typing import Any

import pytest
import requests
import uvicorn
from mlflow.utils import workspace_context

from infra.kubernetes import manifests


async def _remembering(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the workspace that a request begins with, after setting another and reading the body."""
    began = str(workspace_context.get_request_workspace()).encode()
    workspace_context.set_server_request_workspace("team-a")
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(began))]})
    await send({"type": "http.response.body", "body": began})


def second(app: Any) -> str:
    """Return what the request after a large upload on the same connection begins with."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off", http="h11")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with requests.Session() as connection:
            connection.trust_env = False
            assert connection.put(url, data=bytes(2**20), timeout=60).text == "None"
            return str(connection.get(url, timeout=60).text)
    finally:
        server.should_exit = True
        thread.join()


def test_a_request_begins_without_the_workspace_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(manifests.HERE.parent / "mlflow"))
    monkeypatch.delenv("MLFLOW_WORKSPACE", raising=False)
    layer = importlib.import_module("kubernetes_workspaces").OwnWorkspace
    assert second(layer(_remembering)) == "None"
    assert second(_remembering) == "team-a", "uvicorn needs no help any more: the layer can go"
