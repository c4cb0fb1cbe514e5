"""The stage graph as dvc.yaml has it and as the compiled Kubeflow pipeline has it, in one form."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import PurePosixPath
from typing import Any

# train tells MLflow how it goes: that can't change weights, so dvc.yaml doesn't list it.
REPORTING_PARAMS = {("train", "tracking")}
# Where workers of a search have pods of their own, the stage `tune` is three steps: studies are made, workers run
# trials on them, and the step `tune` reads the outcome. DVC runs the workers as processes of its one stage. Ranges of
# examples or shards may be worked on in pods of their own, and are joined.
_PARTS = {
    "tune_start": "tune",
    "tune_worker": "tune",
    **{f"{stage}_{step}": stage for stage in ("ingest", "validate", "prepare") for step in ("part", "join")},
}
_CODE = "code"  # DVC's stage that hashes the others' code, which Kubeflow receives as a parameter
_NOT_PARAMS = {"data", "code"}  # hashes for Kubeflow's cache; DVC has its own
# Steps that DVC has no stage for: one tells how the run ended, one asks what state the source is in, as DVC does.
_NO_STAGES = {"report_status", "source_state"}


@dataclass(frozen=True)
class Graph:
    """Stages, with `@C` collapsed.

    Attributes:
        edges: (from, to) between stages.
        looped: stages that run once a candidate.
        params: (stage, section of params.yaml).
    """

    stages: frozenset[str]
    edges: frozenset[tuple[str, str]]
    looped: frozenset[str]
    params: frozenset[tuple[str, str]]


def dvc_graph(text: dict[str, Any]) -> Graph:
    """From dvc.yaml. An edge leads from the stage with an output to one that depends on it or on a folder around it."""
    stages = {name: stage.get("do", stage) for name, stage in text["stages"].items() if name != _CODE}
    outs = {
        (name, path)
        for name, one in stages.items()
        for kind in ("outs", "metrics", "plots")
        for path in _paths(one, kind)
    }
    deps = {(name, path) for name, one in stages.items() for path in [*_paths(one, "deps"), *_params_files(one)]}
    return Graph(
        frozenset(stages),
        frozenset((a, b) for a, out in outs for b, dep in deps if PurePosixPath(out).is_relative_to(dep)),
        frozenset(name for name, stage in text["stages"].items() if "foreach" in stage),
        frozenset((name, path.split(".")[0]) for name, one in stages.items() for path in _sections_of(one)),
    )


def _paths(stage: dict[str, Any], kind: str) -> list[str]:
    return [next(iter(one)) if isinstance(one, dict) else one for one in stage.get(kind, [])]


def _params_files(stage: dict[str, Any]) -> list[str]:
    """Files other than params.yaml of which a stage reads some keys."""
    return [next(iter(one)) for one in stage.get("params", []) if isinstance(one, dict)]


def _sections_of(stage: dict[str, Any]) -> list[str]:
    """Sections of params.yaml of which a stage reads all or some."""
    return list(dict.fromkeys(one.partition(".")[0] for one in stage.get("params", []) if isinstance(one, str)))


def kfp_graph(spec: dict[str, Any]) -> Graph:
    """From the compiled pipeline. What comes out of a loop depends on which candidates there are."""
    stages: set[str] = set()
    edges: set[tuple[str, str]] = set()
    looped: set[str] = set()
    params: set[tuple[str, str]] = set()

    def visit(
        component: dict[str, Any], sources: dict[str, str], sections: dict[str, str], loop: bool
    ) -> dict[str, str]:
        """Walk a DAG; `sources` and `sections` say where its inputs come from. Returns the same of its outputs."""
        made: dict[tuple[str, str], str] = {}
        tasks = component["dag"]["tasks"]
        for name in TopologicalSorter(
            {name: task.get("dependentTasks", []) for name, task in tasks.items()}
        ).static_order():
            task = tasks[name]
            inner = spec["components"][task["componentRef"]["name"]]
            artifacts = _artifacts(task, made, sources)
            given = _sections(task, sections)
            if "dag" in inner:
                below = loop or "parameterIterator" in task
                if "parameterIterator" in task:
                    candidates = "inputParameter" in task["parameterIterator"]["items"]
                    given[task["parameterIterator"]["itemInput"]] = "candidates" if candidates else _CODE
                for output, stage in visit(inner, artifacts, given, below).items():
                    made[name, output] = stage
                continue
            stage = task["componentRef"]["name"].removeprefix("comp-").replace("-", "_")
            if stage in _NO_STAGES:
                continue
            looped.update({stage} if loop and stage not in _PARTS else set())
            stage = _PARTS.get(stage, stage)
            stages.add(stage)
            edges.update((source, stage) for source in artifacts.values() if source != stage)
            params.update((stage, one) for one in given.values() if one not in _NOT_PARAMS)
            if not loop and any(source in looped for source in artifacts.values()):
                params.add((stage, "candidates"))
            made |= {(name, output): stage for output in inner.get("outputDefinitions", {}).get("artifacts", {})}
        return {output: made[where] for output, where in _outputs(component).items()}

    arguments = spec["root"]["inputDefinitions"]["parameters"]
    visit(spec["root"], {}, {name: name for name in arguments}, loop=False)
    return Graph(frozenset(stages), frozenset(edges), frozenset(looped), frozenset(params))


def _artifacts(task: dict[str, Any], made: dict[tuple[str, str], str], sources: dict[str, str]) -> dict[str, str]:
    found = {}
    for name, one in task.get("inputs", {}).get("artifacts", {}).items():
        if "taskOutputArtifact" in one:
            where = one["taskOutputArtifact"]
            found[name] = made[where["producerTask"], where["outputArtifactKey"]]
        else:
            found[name] = sources[one["componentInputArtifact"]]
    return found


def _sections(task: dict[str, Any], sections: dict[str, str]) -> dict[str, str]:
    found = {}
    for name, one in task.get("inputs", {}).get("parameters", {}).items():
        if "componentInputParameter" in one:
            found[name] = sections[one["componentInputParameter"]]
        elif "taskOutputParameter" in one:  # of a step that DVC has no stage for
            found[name] = "data"
    return found


def _outputs(component: dict[str, Any]) -> dict[str, tuple[str, str]]:
    found = {}
    for name, one in component["dag"].get("outputs", {}).get("artifacts", {}).items():
        (selector,) = one["artifactSelectors"]
        found[name] = (selector["producerSubtask"], selector["outputArtifactKey"])
    return found
