"""Follows a run: a line when a step begins to wait, gets on, ends or fails, and the reason when the run fails."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pipelines.cluster import Cluster
from pipelines.nodes import OF_CANDIDATES, Step, foreseen_steps, read_steps, workflow_of
from segops.commands.states import NOTHING_TO_DO
from segops.errors import UserError
from segops.progress import say

_GOOD, _BAD = {"SUCCEEDED", "SKIPPED"}, {"FAILED", "CANCELED"}
_GOING = ("RUNNING", "PENDING")
_NONE = {None, "", "RUNTIME_STATE_UNSPECIFIED"}
_REASON = "segops: "
# Lines of Kubeflow's and Argo's own programs in a step's log.
_FOREIGN = re.compile(r'[IWEF]\d{4} \d\d:|time="|\s|$')
_ASKING, _EXIT = "source-state", "report-status"
_RUNS_NAMESPACE = "kubeflow"  # of runs in a single-user deployment
_STALE = "the details of its steps are older than its end"
_LOG_EVERY_S = 30.0
_HOUR_S = 3600.0


def follow(
    cluster: Cluster,
    run_id: str,
    *,
    poll_s: float = 10.0,
    start_patience_s: float = 300.0,
    patience_s: float = 24 * _HOUR_S,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Wait for a run's end.

    Args:
        poll_s: between two questions about the run.
        start_patience_s: a step that waits longer to start is reported, once.
        patience_s: a lost connection is waited for so long.
        now: the present time.

    Raises: UserError naming the steps that failed and why, or that the run was cancelled.
    """
    teller = _Teller(cluster, run_id, start_patience_s, now)
    while True:
        run = cluster.run(run_id, patience_s=patience_s)
        teller.tell(run)
        if run.state in _GOOD:
            teller.tell_idle(run)
            return
        if run.state in _BAD:
            raise UserError(teller.end(run))
        time.sleep(poll_s)


class _Teller:
    """Says each thing once."""

    def __init__(self, cluster: Cluster, run_id: str, start_patience_s: float, now: Callable[[], datetime]) -> None:
        self._cluster, self._run_id, self._start_patience_s, self._now = cluster, run_id, start_patience_s, now
        self._said: set[str] = set()
        self._log_read: dict[str, float] = {}

    def tell(self, run: Any) -> None:
        """Say what is new about the run and its steps."""
        waits = run.state in _NONE
        self._once(f"run {self._run_id}: {'waiting for the controller' if waits else run.state}")
        for step in _steps(run):
            name = called(step, run)
            if step.state == "PENDING" and run.state not in _GOOD | _BAD:
                self._tell_waiting(step, name)
            elif step.state == "RUNNING" and run.state not in _GOOD | _BAD:
                self._tell_attempts(step, name)
                self._tell_progress(step, name)
            elif step.state == "SUCCEEDED" and step.name != _EXIT:
                self._once(f"{name}: done{_lasted(step)}")
            elif step.state == "SKIPPED":
                self._once(f"{name}: from the cache")
        if run.state in _GOOD and _is_stale(run):
            self._once(f"{_STALE}: Kubeflow shows them as they were before")

    def tell_idle(self, run: Any) -> None:
        """Say why a run had nothing to do, by the words of the step that asked."""
        steps = [step for step in _steps(run) if step.name != _EXIT]
        if [step.name for step in steps] == [_ASKING] and (reason := self._words(steps[0].pods, NOTHING_TO_DO)):
            self._once(f"{NOTHING_TO_DO}{reason}")

    def end(self, run: Any) -> str:
        """Word the line that ends a run which didn't succeed."""
        steps = _steps(run)
        link = f"see {self._cluster.link(self._run_id)}"
        if _was_cancelled(run):
            ended = [step for step in steps if step.state in ("FAILED", *_GOING) and step.name != _EXIT]
            during = f" during {', '.join(called(step, run) for step in ended)}" if ended else ""
            return f"run {self._run_id} was cancelled{during}; {link}"
        failed = [step for step in steps if step.state == "FAILED"]
        failed = [step for step in failed if step.name != _EXIT] or failed
        lines = [f"{called(step, run)}: {self._reason(step.pods)}" for step in failed]
        if _is_stale(run):
            lines += [f"{_STALE}, what failed last isn't in them", *self._unlisted_reasons(run, steps)]
        again = "submit the same again to go on from the cache and the checkpoints"
        return "; ".join([f"run {self._run_id} ended as {run.state}", *lines, again, link])

    def _once(self, line: str) -> None:
        """Say a line, unless it was said before."""
        if line not in self._said:
            self._said.add(line)
            say(line)

    def _tell_waiting(self, step: Step, name: str) -> None:
        """Say that a step's pod waits to start, when it has waited for long."""
        if step.since is None or (self._now() - step.since).total_seconds() < self._start_patience_s:
            return
        namespace = self._cluster.login.namespace or _RUNS_NAMESPACE
        self._once(
            f"{name}: its pod waits to start since {step.since:%H:%M:%S} UTC; `kubectl describe pods --namespace "
            f"{namespace} --selector pipeline/runid={self._run_id}` says why: an image or a secret that isn't there, a "
            "quota, no free node"
        )

    def _tell_attempts(self, step: Step, name: str) -> None:
        """Say why earlier attempts of a step failed."""
        for number, pod in enumerate(step.pods[:-1], start=1):
            if pod not in self._log_read:
                self._log_read[pod] = 0.0
                self._once(f"{name}: attempt {number} failed: {self._reason((pod,))}; it is tried again")

    def _tell_progress(self, step: Step, name: str) -> None:
        """Say the last line that the step itself wrote, now and then."""
        if not step.pods or time.monotonic() - self._log_read.get(step.pods[-1], float("-inf")) < _LOG_EVERY_S:
            return
        self._log_read[step.pods[-1]] = time.monotonic()
        if own := _own_lines(self._cluster.api.log(self._run_id, step.pods[-1])):
            self._once(f"{name}: {own[-1].removeprefix(_REASON)}")

    def _unlisted_reasons(self, run: Any, steps: list[Step]) -> list[str]:
        """Return what the steps that old details don't show as ended wrote about their failure."""
        workflow, spec = workflow_of(_tasks(run)), self._cluster.specification(run)
        if workflow is None or spec is None:
            return []
        known = {(step.name, step.items) for step in steps if step.state not in _GOING}
        foreseen = foreseen_steps(spec, workflow, len(_argument(run, "candidates") or []))
        unlisted = [step for step in foreseen if (step.name, step.items) not in known and step.name != _EXIT]
        return [f"{called(step, run)}: {reason}" for step in unlisted if (reason := self._words(step.pods))]

    def _words(self, pods: tuple[str, ...], mark: str = _REASON) -> str | None:
        """Return what the last line with this mark says in the logs of a step's attempts, up to a missing log."""
        reason = None
        for pod in pods:
            if not (lines := self._cluster.api.log(self._run_id, pod)):
                break
            reason = next((line.removeprefix(mark) for line in reversed(lines) if line.startswith(mark)), reason)
        return reason

    def _reason(self, pods: tuple[str, ...]) -> str:
        """Return why the last of these attempts failed, by its own words."""
        if not pods:
            return "no pod of it was started"
        lines = self._cluster.api.log(self._run_id, pods[-1])
        if reasons := [line for line in lines if line.startswith(_REASON)]:
            return reasons[-1].removeprefix(_REASON)
        if own := _own_lines(lines) or [line for line in lines if line.strip()]:  # a driver has none of ours
            return f"it gave no reason (killed? out of memory?), its last line is: {own[-1]}"
        return "its log can't be had (the pod is gone, or this account may not read it)"


def called(step: Step, run: Any) -> str:
    """Name a step as people know it: with its candidate, or its number."""
    if not step.items:
        return step.name
    item = step.items[-1]
    if step.name not in OF_CANDIDATES:
        return f"{step.name} {item}"
    candidates = _argument(run, "candidates")
    known = isinstance(candidates, list) and item < len(candidates) and isinstance(candidates[item], dict)
    return f"{step.name} of {candidates[item].get('candidate') if known else f'candidate number {item + 1}'}"


def _argument(run: Any, name: str) -> Any:
    """Return an argument of a run by name; None where the API doesn't tell."""
    parameters = getattr(run.runtime_config, "parameters", None) if run.runtime_config else None
    return (parameters or {}).get(name)


def _tasks(run: Any) -> list[Any]:
    return list(run.run_details.task_details or []) if run.run_details else []


def _steps(run: Any) -> list[Step]:
    return read_steps(_tasks(run))


def _was_cancelled(run: Any) -> bool:
    """Return whether a run was cancelled: Kubeflow 2.17 ends it as FAILED, its history tells."""
    return run.state == "CANCELED" or any(was.state == "CANCELING" for was in run.state_history or [])


def _is_stale(run: Any) -> bool:
    """Return whether the details show an ended run as if it still ran."""
    return any(task.display_name == "root" and task.state == "RUNNING" for task in _tasks(run))


def _own_lines(lines: list[str]) -> list[str]:
    """Return the lines of a log that the step itself wrote."""
    return [line.rstrip() for line in lines if not _FOREIGN.match(line)]


def _lasted(step: Step) -> str:
    """Word how long a step took; nothing where that isn't known."""
    if step.since is None or step.ended is None:
        return ""
    seconds = int((step.ended - step.since).total_seconds())
    return f" in {seconds // 60} min {seconds % 60} s" if seconds >= 60 else f" in {seconds} s"
