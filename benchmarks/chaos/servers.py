"""A real MLflow server behind a proxy that loses, refuses and misdirects: a registration or a promotion, then again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from benchmarks.chaos import command
from benchmarks.chaos.command import Ended
from benchmarks.chaos.kills import settled, soon_abandoned
from benchmarks.chaos.outcome import Outcome
from benchmarks.chaos.project import STAGES, Project, free, store_problem, write_params
from tests.support.fault_proxy import Fault, Rule, fault_proxy
from tests.support.mlflow_server import MlflowServer

NAME = "servers"
_ALWAYS = 99
_REQUESTS = {
    "register": (
        ("POST", "experiments/search"), ("POST", "experiments/create"), ("POST", "runs/create"),
        ("POST", "runs/log-batch"), ("POST", "mlflow/logged-models"), ("PUT", "model.json"), ("POST", "runs/outputs"),
        ("POST", "runs/log-inputs"), ("POST", "runs/update"), ("POST", "registered-models/create"),
        ("POST", "model-versions/create"), ("POST", "model-versions/set-tag"), ("PATCH", "model-versions/update"),
    ),
    "promote": (
        ("POST", "experiments/search"), ("POST", "experiments/create"), ("POST", "experiments/delete"),
        ("POST", "runs/create"), ("POST", "registered-models/set-tag"), ("POST", "runs/log-batch"),
        ("POST", "registered-models/alias"), ("POST", "runs/update"), ("GET", "registered-models/get"),
        ("GET", "metrics.json"),
    ),
}  # fmt: skip
_TRIES = {"register": 26, "promote": 40}
# Words that the line must hold, by fault.
_WORDS = {
    "401": "401 Unauthorized", "403": "403 Forbidden", "404": "404 Not Found", "429": "429 Too Many Requests",
    "500": "500 Internal Server Error", "503": "503 Service Unavailable", "login page": "a page that isn't MLflow's",
    "answer lost": "connection lost", "hung up": "connection lost",
}  # fmt: skip


def run(folder: Path, share: float, seed: int) -> Iterator[Outcome]:
    """Yield what became of each: `right` where the command went through, `one line` where it said the right words."""
    draw = random.Random(seed)
    project = Project(folder / "project")
    for action, tries in _TRIES.items():
        for _ in range(max(1, round(tries * share))):
            request = draw.choice(_REQUESTS[action])
            fault = draw.choice(get_args(Fault))
            times = draw.choice((1, 2, _ALWAYS))
            yield _case(project, action, folder / "case", Rule(*request, fault, times))
            free(folder / "case")


def _case(project: Project, action: str, case: Path, rule: Rule) -> Outcome:
    """Run a command with a fault, then without, on a server whose store is the project's."""
    often = "always" if rule.times == _ALWAYS else f"{rule.times} times"
    name = f"{action}, {rule.method} {rule.path}: {rule.fault} {often}"
    copy = project.copy(action, case)
    write_params(copy, tracking={"patience_s": 0})
    server = MlflowServer(case)
    (case / "mlflow.db").rename(case / "server.db")
    server.start()
    try:
        with fault_proxy(server.port, rule) as proxy:
            environment = {"MLFLOW_TRACKING_URI": proxy.uri, "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}
            first = command.run(STAGES[action], copy, environment=environment, before=soon_abandoned)
            proxy.rules.clear()
            again = first
            if first.code != 0:
                again = _repeated(action, copy, environment)
    finally:
        server.stop()
    for ended in (first, again):
        if ended.is_traceback:
            return Outcome(NAME, name, "traceback", ended.error)
    if first.code != 0 and _WORDS.get(str(rule.fault), "") not in (first.line or ""):
        return Outcome(NAME, name, "wrong", f"words: {first.line}")
    if again.code != 0:
        return Outcome(NAME, name, "wrong", f"again: exit code {again.code}, {again.line}")
    if problem := store_problem(case / "server.db", promoted=action == "promote"):
        doubled = "instead of 1" in problem and "0 " not in problem
        return Outcome(NAME, name, "doubled" if doubled else "wrong", f"{problem}; {first.line}")
    return Outcome(NAME, name, "one line" if first.code else "right", first.line or "")


def _repeated(action: str, project: Path, environment: dict[str, str]) -> Ended:
    """Run the command again, and once more where another decision must settle first."""
    again = command.run(STAGES[action], project, environment=environment, before=soon_abandoned)
    return settled(again, project, soon_abandoned, environment) if action == "promote" and again.code else again
