"""A strict double of the Kubeflow Pipelines run API: it knows these paths and bodies and refuses all others.

What it says of a run was recorded from the real one, see tests/support/recorded.
"""

from __future__ import annotations

import copy
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.remote_servers import QuietHandler, answer, serve

BASE, LOGS = "/apis/v2beta1", "/apis/v1alpha1"
RESET = 0  # among faults: the connection is cut without an answer
_RECORDED = Path(__file__).with_name("recorded")
_NO_TIME = "0001-01-01T00:00:00Z"


def recorded(name: str) -> dict[str, Any]:
    """A recorded answer, of a run that has ended."""
    read: dict[str, Any] = json.loads((_RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    return read


def as_of(run: dict[str, Any], time: str) -> dict[str, Any]:
    """What the API said of a recorded run at a time of its day, such as 17:12:00, by the recorded histories."""
    moment = f"{run['created_at'][:11]}{time}Z"
    then = copy.deepcopy(run)
    then["state"] = _state_at(then, moment)
    tasks = [task for task in then["run_details"]["task_details"] if _state_at(task, moment)]
    for task in tasks:
        task["state"] = _state_at(task, moment)
        if task["state"] in ("PENDING", "RUNNING"):
            task["end_time"] = _NO_TIME
    then["run_details"]["task_details"] = tasks
    then["state_history"] = [was for was in then["state_history"] if was["update_time"] <= moment]
    return then


def _state_at(about: dict[str, Any], moment: str) -> str | None:
    states = [was.get("state") for was in about.get("state_history", []) if was["update_time"] <= moment]
    return states[-1] if states else None


@dataclass
class RunApi:
    """What the server holds, does next, and was asked.

    Attributes:
        answers: about the run that is asked for, one a question; the last one stays.
        logs: text by node.
        faults: statuses to answer before ordinary answers, or RESET.
        token: that requests must bear; None: any.
        asked: method and path of every request.
        stopped: the runs that were ended.
        pipelines, versions, runs, recurring: by id, what was made.
    """

    answers: list[dict[str, Any]] = field(default_factory=lambda: [{"state": "RUNNING"}, {"state": "SUCCEEDED"}])
    logs: dict[str, str] = field(default_factory=dict)
    faults: list[int] = field(default_factory=list)
    token: str | None = None
    asked: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, dict[str, Any] | str]:
        """Status and JSON, or text."""
        if path.startswith(LOGS):
            return self._log(method, path.removeprefix(LOGS).strip("/").split("/"))
        match method, path.removeprefix(BASE).strip("/").split("/"):
            case "GET", ["experiments" | "pipelines" as kind]:
                return 200, {kind: self._named(getattr(self, kind), query)}
            case "POST", ["experiments"]:
                return 200, self._keep(self.experiments, "experiment_id", json.loads(body))
            case "POST", ["pipelines", "upload"]:
                made = self._keep(self.pipelines, "pipeline_id", {"display_name": query["name"]})
                return 200, made
            case "POST", ["pipelines", "upload_version"]:
                assert query["pipelineid"] in self.pipelines
                about = {"display_name": query["name"], "pipeline_id": query["pipelineid"], "package": _file(body)}
                return 200, _without(self._keep(self.versions, "pipeline_version_id", about), "package")
            case "GET", ["pipelines", _, "versions", version] if version in self.versions:
                return 200, self._version(version)
            case "GET", ["pipelines", pipeline, "versions"]:
                found = [one for one in self.versions.values() if one["pipeline_id"] == pipeline]
                return 200, _page("pipeline_versions", [_without(one, "package") for one in found], query)
            case "POST", ["runs"]:
                return 200, self._keep(self.runs, "run_id", json.loads(body))
            case "POST", ["recurringruns"]:
                return 200, self._keep(self.recurring, "recurring_run_id", json.loads(body))
        return self._runs(method, path.removeprefix(BASE).strip("/").split("/"), query)

    def _runs(self, method: str, path: list[str], query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        match method, path:
            case "GET", ["runs" | "recurringruns" as kind]:
                assert query["sort_by"] == "created_at desc"
                kept, name = (self.runs, "runs") if kind == "runs" else (self.recurring, "recurringRuns")
                return 200, _page(name, list(reversed(kept.values())), query)
            case "GET", ["runs", run] if run in self.runs:
                said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                return 200, {**self.runs[run], **said, "run_id": run}
            case "POST", ["runs", action] if action.endswith(":terminate"):
                self.stopped.append(action.removesuffix(":terminate"))
                return 200, {}
            case "DELETE", ["recurringruns", recurring] if recurring in self.recurring:
                del self.recurring[recurring]
                return 200, {}
        return 404, {"error": f"no {method} {'/'.join(path)}"}

    def _log(self, method: str, path: list[str]) -> tuple[int, dict[str, Any] | str]:
        match method, path:
            case "GET", ["runs", _, "nodes", node, "log"]:
                if node in self.logs:
                    return 200, self.logs[node]
                return 500, {"error_message": f'pods "{node}" not found'}
        return 404, {"error": "not found"}

    def _version(self, version: str) -> dict[str, Any]:
        import yaml

        spec, *platform = yaml.safe_load_all(self.versions[version]["package"])
        nested = {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec
        return {**_without(self.versions[version], "package"), "pipeline_spec": nested}

    def _named(self, kept: dict[str, dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
        """What the filter asks for; only equality of one name is known."""
        (predicate,) = json.loads(query["filter"])["predicates"]
        assert predicate["operation"] in (1, "EQUALS")
        wanted = predicate.get("stringValue", predicate.get("string_value"))
        return [one for one in kept.values() if one["display_name"] == wanted]

    def _keep(self, kept: dict[str, dict[str, Any]], key: str, about: dict[str, Any]) -> dict[str, Any]:
        made = {**about, key: f"{key[:-3]}-{len(kept) + 1}"}
        kept[made[key]] = made
        return made


def _page(name: str, entries: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    first = int(query.get("page_token") or 0)
    last = first + int(query["page_size"])
    return {name: entries[first:last], "next_page_token": str(last) if last < len(entries) else ""}


def _without(about: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in about.items() if key != name}


def _file(body: bytes) -> str:
    """The one file of a multipart body."""
    found = re.search(rb'name="uploadfile"; filename="[^"]+"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', body, re.DOTALL)
    assert found is not None
    return found[1].decode()


@contextmanager
def run_api_server(api: RunApi) -> Iterator[str]:
    """Serve it on a free port; yields the host's URL."""

    class Handler(QuietHandler):
        def _handle(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            api.asked.append(f"{self.command} {parts.path.removeprefix(BASE)}")
            made: dict[str, Any] | str
            if api.faults:
                status, made = api.faults.pop(0), {"error": "played"}
            elif api.token is not None and self.headers.get("Authorization") != f"Bearer {api.token}":
                status, made = 401, {"error": "who are you"}
            else:
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                status, made = api.answer(self.command, parts.path, query, body)
            if status == RESET:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            kind = "text/plain" if isinstance(made, str) else "application/json"
            text = made if isinstance(made, str) else json.dumps(made)
            answer(self, status, text.encode(), {"Content-Type": kind})

        do_GET = do_POST = do_DELETE = _handle

    with serve(Handler) as url:
        yield url


@pytest.fixture
def host(api: RunApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the module's own `api`; a test module names this file in `pytest_plugins`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("KFP_TOKEN", raising=False)
    with run_api_server(api) as url:
        yield url
