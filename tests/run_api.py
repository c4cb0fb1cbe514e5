"""A strict double of the Kubeflow Pipelines run API: it knows these paths and bodies and refuses all others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.remote_servers import QuietHandler, answer, serve

BASE = "/apis/v2beta1"


@dataclass
class RunApi:
    """What the server holds, does next, and was asked.

    Attributes:
        states: of the run, one an answer; the last one stays.
        faults: statuses to answer before ordinary answers.
        token: that requests must bear; None: any.
        failed: steps that a FAILED run names.
        pending: steps that wait to start.
        asked: method and path of every request.
        pipelines, versions, runs, recurring: by id, what was made.
    """

    states: list[str] = field(default_factory=lambda: ["RUNNING", "SUCCEEDED"])
    faults: list[int] = field(default_factory=list)
    token: str | None = None
    failed: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON."""
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
            case "GET", ["pipelines", pipeline, "versions"]:
                found = [one for one in self.versions.values() if one["pipeline_id"] == pipeline]
                first = int(query.get("page_token") or 0)
                last = first + int(query["page_size"])
                page = [_without(one, "package") for one in found[first:last]]
                return 200, {"pipeline_versions": page, "next_page_token": str(last) if last < len(found) else ""}
            case "POST", ["runs"]:
                return 200, self._keep(self.runs, "run_id", json.loads(body))
            case "POST", ["recurringruns"]:
                return 200, self._keep(self.recurring, "recurring_run_id", json.loads(body))
            case "GET", ["runs", run] if run in self.runs:
                state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
                tasks = [{"display_name": name, "state": "FAILED"} for name in self.failed]
                tasks += [{"display_name": name, "state": "PENDING"} for name in self.pending]
                return 200, {"run_id": run, "state": state, "run_details": {"task_details": tasks}}
        return 404, {"error": f"no {method} {path}"}

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
            if api.faults:
                status, made = api.faults.pop(0), {"error": "played"}
            elif api.token is not None and self.headers.get("Authorization") != f"Bearer {api.token}":
                status, made = 401, {"error": "who are you"}
            else:
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                status, made = api.answer(self.command, parts.path, query, body)
            answer(self, status, json.dumps(made).encode(), {"Content-Type": "application/json"})

        do_GET = do_POST = _handle

    with serve(Handler) as url:
        yield url
