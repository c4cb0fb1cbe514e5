"""Tells which step each task of a run belongs to.

Kubeflow lists a run's nodes by their last name alone (`train`, `executor`, `executor(0)`, ..), with the ids of their
children, but not their own. An id is the workflow's name and the FNV-1a hash of the node's whole path
(argo-workflows, `Workflow.NodeID`), so that paths are found by trying names below paths that are known:

    segops-training-x(0).root(0).exit-handler-1(0).for-loop-2(0).iteration-iterations(1:1)(0).iteration-item(0).train
    .. .train-driver(0)        the pod that looks into the cache
    .. .train(0).executor(0)   the first attempt's pod; `executor` holds the attempts, and is SKIPPED after a hit
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

OF_CANDIDATES = ("train", "train-job", "evaluate", "register")  # other loops' items are numbers
_FNV_BASIS, _FNV_PRIME, _32_BITS = 2166136261, 16777619, 2**32 - 1
_ITEM = re.compile(r"iteration-iterations\((\d+):")
_ATTEMPTS = range(12)  # kubeflow.retries is at most 10
_EXECUTOR, _DRIVER = "executor", "-driver"


@dataclass(frozen=True)
class Step:
    """A step of a run.

    Attributes:
        name: as the pipeline's specification has it.
        items: the loops' items that it belongs to, counted from 0, the outermost loop first.
        state: PENDING while its pod can't start, SKIPPED where the cache had its outputs, else as Kubeflow names it.
        since: when it was made; of a pending step when its pod was.
        ended: None while it isn't.
        pods: the nodes of its attempts, the oldest first.
    """

    name: str
    items: tuple[int, ...]
    state: str | None
    since: datetime | None = None
    ended: datetime | None = None
    pods: tuple[str, ...] = ()


def read_steps(tasks: Iterable[Any]) -> list[Step]:
    """Return the steps that were begun, in the order of their beginning.

    Args:
        tasks: of kfp's client: display_name, state, start_time, end_time, child_tasks. Those without a name are left
            out: they are Kubeflow's own notes on executions.
    """
    named = [task for task in tasks if task.display_name]
    paths = _paths(named)
    of_path = {path: task for task in named if (path := _path_of(task, paths)) is not None}
    waiting = _waiting(named, of_path)
    steps = [_step(path, task, waiting.get(path)) for path, task in of_path.items() if _is_step(path, of_path, waiting)]
    steps += _from_cache(paths.values(), of_path)
    return sorted(steps, key=lambda step: (step.since is None, step.since, step.name))


def foreseen_steps(spec: Mapping[str, Any], workflow: str, items: int) -> list[Step]:
    """Return the steps that a run goes through by its pipeline's specification, in states that nobody knows.

    Their pods have the ids that they will get, so that a log can be asked for where Kubeflow lists no task.

    Args:
        spec: the pipeline's specification.
        workflow: its name in this run.
        items: of a loop over an argument.
    """
    steps: list[Step] = []

    def visit(dag: Mapping[str, Any], path: str) -> None:
        for name, task in dag["tasks"].items():
            component = spec["components"][task["componentRef"]["name"]]
            # A task that runs whatever happens is a hook of the task that it watches.
            watched = task["dependentTasks"][0] if "strategy" in task.get("triggerPolicy", {}) else None
            here = f"{path}.{watched}.onExit(0).{name}(0)" if watched else f"{path}.{name}(0)"
            if "dag" not in component:
                pods = tuple(node_id(workflow, f"{here}.{_EXECUTOR}({number})") for number in _ATTEMPTS)
                steps.append(Step(name, _items(here), None, pods=pods))
            elif "parameterIterator" not in task:
                visit(component["dag"], here)
            else:
                raw = task["parameterIterator"]["items"].get("raw")
                for item in range(len(json.loads(raw)) if raw else items):
                    visit(component["dag"], f"{here}.iteration-iterations({item}:{item})(0).iteration-item(0)")

    visit(spec["root"]["dag"], f"{workflow}(0).root(0)")
    return steps


def workflow_of(tasks: Iterable[Any]) -> str | None:
    """Return the name of a run's workflow; None while it has no nodes."""
    ids = set().union(*map(_children, tasks))
    return min(ids).rpartition("-")[0] if ids else None


def node_id(workflow: str, path: str) -> str:
    """Return the id of the node at a path."""
    return f"{workflow}-{_fnv(path)}"


def _fnv(text: str, state: int = _FNV_BASIS) -> int:
    """Hash a text by FNV-1a, 32 bits; `state` is the hash of what comes before `text`."""
    for byte in text.encode():
        state = ((state ^ byte) * _FNV_PRIME) & _32_BITS
    return state


def _children(task: Any) -> set[str]:
    """Return the ids of a task's child nodes."""
    return {child.pod_name for child in task.child_tasks or [] if child.pod_name}


def _paths(tasks: list[Any]) -> dict[str, str]:
    """Return the path by id of every node that is a child of another."""
    wanted, workflow = set().union(*map(_children, tasks)), workflow_of(tasks)
    if workflow is None:
        return {}
    ends = [f".{task.display_name}" for task in tasks] + [f"({number})" for number in _ATTEMPTS]
    ends = list(dict.fromkeys(ends))
    paths: dict[str, str] = {}
    unread = [(workflow, _fnv(workflow))]
    while unread:
        path, state = unread.pop()
        for end in ends:
            below = _fnv(end, state)
            child = f"{workflow}-{below}"
            if child in wanted and child not in paths:
                paths[child] = path + end
                unread.append((path + end, below))
    return paths


def _path_of(task: Any, paths: dict[str, str]) -> str | None:
    """Return a task's own path, told by a child right below it; other children are the nodes that follow it."""
    for child in _children(task):
        path = paths.get(child, "")
        for above in (path[: path.rfind("(")], path[: path.rfind(".")]):
            if above and above.rpartition(".")[2] == task.display_name and len(path) > len(above):
                return above
    return None


def _is_step(path: str, of_path: dict[str, Any], waiting: dict[str, Any]) -> bool:
    """Return whether the node looks after the attempts of a step's pod.

    The pod that looks into the cache counts where it is what the step waits for or fails by.
    """
    name = path.rpartition(".")[2]
    if name.endswith(_DRIVER):
        return path in waiting or of_path[path].state == "FAILED"
    return name == _EXECUTOR


def _step(path: str, task: Any, pod: Any | None) -> Step:
    """Build the step of a node, with the pods of its attempts."""
    workflow = path.partition("(")[0]
    attempts = (node_id(workflow, f"{path}({number})") for number in _ATTEMPTS)
    return Step(
        _name(path),
        _items(path),
        "PENDING" if pod else task.state,
        pod.start_time if pod else task.start_time,
        task.end_time if task.end_time and task.end_time.year > 1 else None,
        tuple(pod for pod in attempts if pod in _children(task)),
    )


def _from_cache(paths: Iterable[str], of_path: dict[str, Any]) -> list[Step]:
    """Return the steps whose outputs the cache had: `executor` is skipped there, and has no child to tell its path."""
    steps = []
    for path in paths:
        above, _, name = path.rpartition(".")
        task = of_path.get(above)
        if name == _EXECUTOR and path not in of_path and task is not None and task.state == "SUCCEEDED":
            steps.append(Step(_name(path), _items(path), "SKIPPED", task.start_time, task.end_time))
    return steps


def _name(path: str) -> str:
    """Return a step's name from the path of its `executor`, or of its `-driver`."""
    name = path.removesuffix(f".{_EXECUTOR}").rpartition(".")[2]
    return re.sub(r"\(\d+\)$", "", name).removesuffix(_DRIVER)


def _items(path: str) -> tuple[int, ...]:
    """Return the loops' items that a path goes through, the outermost loop first."""
    return tuple(int(item) for item in _ITEM.findall(path))


def _waiting(tasks: list[Any], of_path: dict[str, Any]) -> dict[str, Any]:
    """Return the pods that wait to start, by the path of the node that looks after them.

    A pod's task has no children that would tell its path: it goes to a running node of that name which is not younger,
    best to the node made in the same moment.
    """
    pods: dict[str, Any] = {}
    for pod in tasks:
        name, attempt, _ = pod.display_name.rpartition("(")
        if pod.state != "PENDING" or not attempt:
            continue
        free = [
            path
            for path, task in of_path.items()
            if task.display_name == name and task.state == "RUNNING" and path not in pods
        ]
        free = [path for path in free if of_path[path].start_time <= pod.start_time]
        if free:
            pods[max(free, key=lambda path: of_path[path].start_time)] = pod
    return pods
