"""A strict double of what Kubernetes and Kubeflow Trainer answer to the step that follows a TrainJob.

It holds the manifests' own TrainingRuntime and lets the caller do what the manifests' own role allows; a TrainJob must
be what Trainer 2.3 takes, and its nodes are run here as processes, by the very command of the job.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

NAMESPACE = "team"
_TIME = "2026-11-27T12:00:00Z"
_MANIFESTS = Path(__file__).parents[2] / "infra/kubernetes/base/train-job"
_PATH = re.compile(
    r"^/(?:api/v1|apis/(?P<group>[a-z.]+)/v1alpha1)/namespaces/(?P<namespace>[a-z-]+)"
    r"/(?P<resource>[a-z]+)(?:/(?P<name>[a-z0-9-]+))?(?:/(?P<sub>log))?$"
)


def _documents(name: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((_MANIFESTS / name).read_text(encoding="utf-8")) if document]


@dataclass
class Node:
    """A node's pod: a process, and what it has printed."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def phase(self) -> str:
        """As Kubernetes names it."""
        code = self.process.poll()
        return "Running" if code is None else "Failed" if code else "Succeeded"


@dataclass
class Cluster:
    """The state of the double, and its faults.

    Attributes:
        requests: method and path of each request, in order.
        created: bodies of the TrainJobs that were made.
        faults: HTTP status by (method, resource), taken once; 0: the connection is cut after the work is done.
    """

    folder: Path
    environment: Mapping[str, str]
    requests: list[str] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: dict[str, list[Node]] = field(default_factory=dict)
    faults: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    port: int = 0

    def create(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Make a TrainJob, if Trainer takes it, and start its nodes."""
        from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

        name = body["metadata"]["name"]
        parsed = TrainerV1alpha1TrainJob.from_dict(body)
        assert parsed is not None
        if parsed.to_dict() != body:
            return 400, _refused(400, "BadRequest", "strict decoding error: unknown field")
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name):
            return 422, _refused(422, "Invalid", f"metadata.name: Invalid value: {name}")
        if body["spec"]["runtimeRef"] != {"name": "segops-torch", "kind": "TrainingRuntime"}:
            return 422, _refused(422, "Invalid", "spec.runtimeRef: must exist before the TrainJob is created")
        if '"env"' in json.dumps(body["spec"].get("runtimePatches", [])):
            return 403, _refused(403, "Forbidden", "must not have envs for the node container")
        if name in self.jobs:
            return 409, _refused(409, "AlreadyExists", f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        self.created.append(body)
        self.jobs[name] = {**body, "metadata": {**body["metadata"], "namespace": NAMESPACE, "creationTimestamp": _TIME}}
        self._start(name, body["spec"]["trainer"])
        return 201, self.jobs[name]

    def _start(self, name: str, trainer: Mapping[str, Any]) -> None:
        """Run the nodes' command, as Trainer sets its environment for torchrun."""
        assert trainer["command"] == ["torchrun"]
        command = [sys.executable, "-m", "torch.distributed.run", "--monitor-interval=0.1", *trainer["args"]]
        self.nodes[name] = []
        for rank in range(trainer["numNodes"]):
            given = {
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NODE_RANK": str(rank),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(self.port),
            }
            log = self.folder / f"{name}-node-{rank}.log"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    command, env={**os.environ, **self.environment, **given}, stdout=out, stderr=out, cwd=self.folder
                )
            self.nodes[name].append(Node(f"{name}-node-0-{rank}-abcde", process, log))

    def delete(self, name: str) -> tuple[int, dict[str, Any]]:
        """End a TrainJob's nodes and forget it."""
        if name not in self.jobs:
            return 404, _refused(404, "NotFound", f'trainjobs.trainer.kubeflow.org "{name}" not found')
        for node in self.nodes[name]:
            node.process.terminate()
        for node in self.nodes[name]:
            node.process.wait(60)
        del self.jobs[name]
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def job(self, name: str) -> tuple[int, dict[str, Any]]:
        """Return a TrainJob with the conditions that its nodes' ends make true."""
        if name not in self.jobs:
            return 404, _refused(404, "NotFound", f'trainjobs.trainer.kubeflow.org "{name}" not found')
        phases = {node.phase for node in self.nodes[name]}
        ended = "Failed" if "Failed" in phases else "Complete" if phases == {"Succeeded"} else None
        conditions = [{"type": ended, "status": "True", "reason": "x", "message": "x", "lastTransitionTime": _TIME}]
        return 200, {**self.jobs[name], "status": {"conditions": conditions}} if ended else self.jobs[name]

    def pods(self, selector: str) -> tuple[int, dict[str, Any]]:
        """Return the pods of the job that a label selector names."""
        name = selector.split(",")[0].partition("=")[2]
        items = [
            {
                "metadata": {
                    "name": node.name,
                    "creationTimestamp": _TIME,
                    "labels": {
                        "jobset.sigs.k8s.io/replicatedjob-name": "node",
                        "batch.kubernetes.io/job-completion-index": str(rank),
                    },
                },
                "spec": {"containers": [{"name": "node"}]},
                "status": {"phase": node.phase},
            }
            for rank, node in enumerate(self.nodes.get(name, []))
        ]
        return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}

    def log(self, pod: str) -> str:
        """Return what a pod has printed so far."""
        (node,) = (node for nodes in self.nodes.values() for node in nodes if node.name == pod)
        return node.log.read_text(encoding="utf-8")


def _refused(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _allowed(group: str, resource: str, verb: str) -> bool:
    """Tell whether the manifests' role allows it."""
    (role,) = (document for document in _documents("role.yaml") if document["kind"] == "Role")
    return any(
        group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"] for rule in role["rules"]
    )


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster

    def _answer(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        found = _PATH.match(url.path)
        if found is None:
            self._send(404, _refused(404, "NotFound", "the server could not find the requested resource"))
            return
        group, resource, name, sub = (found[key] or "" for key in ("group", "resource", "name", "sub"))
        self.cluster.requests.append(f"{self.command} {resource}{f'/{sub}' if sub else ''}")
        verb = {"POST": "create", "DELETE": "delete"}.get(self.command, "get" if name else "list")
        if not _allowed(group, f"{resource}/{sub}" if sub else resource, verb):
            user = f"system:serviceaccount:{NAMESPACE}:segops-pipeline"
            message = f'{resource} is forbidden: User "{user}" cannot {verb} resource "{resource}"'
            self._send(403, _refused(403, "Forbidden", message))
            return
        faults = self.cluster.faults.get((self.command, resource), [])
        fault = faults.pop(0) if faults else None
        if fault:
            self._send(fault, _refused(fault, "Fault", "a fault of this test"))
            return
        status, answer = self._done(resource, name, sub, body, parse_qs(url.query))
        if fault == 0:
            self.close_connection = True
            self.connection.close()
            return
        self._send(status, answer)

    def _done(
        self, resource: str, name: str, sub: str, body: dict[str, Any], query: Mapping[str, list[str]]
    ) -> tuple[int, Any]:
        if resource == "trainingruntimes":
            (runtime,) = _documents("runtime.yaml")
            known = runtime["metadata"]["name"] == name
            return (200, runtime) if known else (404, _refused(404, "NotFound", f'trainingruntimes "{name}" not found'))
        if resource == "trainjobs" and self.command == "POST":
            return self.cluster.create(body)
        if resource == "trainjobs":
            return self.cluster.delete(name) if self.command == "DELETE" else self.cluster.job(name)
        if resource == "pods":
            return (200, self.cluster.log(name)) if sub else self.cluster.pods(query["labelSelector"][0])
        return 200, {"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []}

    def _send(self, status: int, answer: Any) -> None:
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def trainer_api(folder: Path, environment: Mapping[str, str], port: int) -> Iterator[Cluster]:
    """Serve the double; a kubeconfig for it is in `folder`. Nodes get `environment`, and meet at `port`."""
    cluster = Cluster(folder, environment, port=port)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    kubeconfig = {
        "apiVersion": "v1", "kind": "Config", "current-context": "double",
        "clusters": [{"name": "double", "cluster": {"server": address}}],
        "users": [{"name": "step", "user": {"token": "segops-pipeline"}}],
        "contexts": [{"name": "double", "context": {"cluster": "double", "user": "step", "namespace": NAMESPACE}}],
    }  # fmt: skip
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig), encoding="utf-8")
    try:
        yield cluster
    finally:
        for name in list(cluster.jobs):
            cluster.delete(name)
        server.shutdown()
        server.server_close()
