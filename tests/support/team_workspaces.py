"""A double of what MLflow's plugin for Kubernetes asks Kubernetes: namespaces, and who may do what in them.

Rights are those of the rendered overlay `team`, in the namespaces of two teams. A token is `NAMESPACE:ROLE`, and counts
for the subjects that the role of that name is bound to there.
"""

from __future__ import annotations

import json
import os
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from infra.kubernetes import manifests
from tests.support.kubernetes_checks import find, load
from tests.support.mlflow_server import MlflowServer
from tests.support.remote_servers import QuietHandler, answer, serve

TEAMS = ("team-a", "team-b")
_LABEL = {"mlflow-enabled": "true"}


def allowed(token: str, asked: dict[str, str]) -> bool:
    """Answer as RBAC does: the verb on the resource, and where a rule names objects, on one of these."""
    namespace, _, role = token.partition(":")
    if namespace != asked["namespace"]:
        return False
    rules = find(load(manifests.TEAM), "Role", f"mlflow-{role}")["rules"]
    return any(
        asked["group"] in rule["apiGroups"]
        and asked["resource"] in rule["resources"]
        and asked["verb"] in rule["verbs"]
        and ("resourceNames" not in rule or asked.get("name") in rule["resourceNames"])
        for rule in rules
    )


class _Api(QuietHandler):
    """Kubernetes' API, as far as the plugin uses it."""

    ended: threading.Event

    def do_GET(self) -> None:
        namespaces = [{"metadata": {"name": name, "labels": _LABEL, "resourceVersion": "1"}} for name in TEAMS]
        if not self.path.startswith("/api/v1/namespaces?labelSelector=mlflow-enabled%3Dtrue"):
            return _json(self, 404, {"kind": "Status", "code": 404, "reason": "NotFound"})  # no MLflowConfig here
        if "watch=True" not in self.path:
            listed = {"kind": "NamespaceList", "metadata": {"resourceVersion": "1"}, "items": namespaces}
            return _json(self, 200, listed)
        self.ended.wait()  # nothing changes
        return None

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        asked = {name: value for name, value in review["spec"]["resourceAttributes"].items() if value is not None}
        token = self.headers["Authorization"].removeprefix("Bearer ")
        _json(self, 201, {**review, "status": {"allowed": allowed(token, asked)}})


def _json(handler: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
    answer(handler, status, json.dumps(body).encode(), {"Content-Type": "application/json"})


def _installed(folder: Path) -> str:
    """Return PYTHONPATH with infra/mlflow as if it were installed."""
    source = manifests.HERE.parent / "mlflow"
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / "installed" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "\n".join(f"{name} = {place}" for name, place in places.items()) for group, places in groups
    ]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    return os.pathsep.join([str(source), str(info.parent), os.environ.get("PYTHONPATH", "")])


@contextmanager
def workspaces_server(folder: Path) -> Iterator[MlflowServer]:
    """A real MLflow server with the settings of the overlay `workspaces`, on sqlite and files, before the double."""
    ended = threading.Event()
    handler = type("Api", (_Api,), {"ended": ended})
    objects = load(manifests.WORKSPACES)
    settings = {
        name: value for name, value in find(objects, "ConfigMap", "mlflow")["data"].items() if "WORKSPACE" in name
    }
    pod = find(objects, "Deployment", "mlflow")["spec"]["template"]["spec"]
    app = next(option for option in pod["containers"][0]["args"] if option.startswith("--app-name"))
    with serve(handler) as url:
        (folder / "kubeconfig").write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "double",
                    "clusters": [{"name": "double", "cluster": {"server": url}}],
                    "users": [{"name": "mlflow", "user": {"token": "mlflow"}}],
                    "contexts": [{"name": "double", "context": {"cluster": "double", "user": "mlflow"}}],
                }
            ),
            encoding="utf-8",
        )
        settings |= {
            "KUBECONFIG": str(folder / "kubeconfig"),
            "PYTHONPATH": _installed(folder),
            "NO_PROXY": "127.0.0.1",
        }
        server = MlflowServer(folder, app, **settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()
            ended.set()
