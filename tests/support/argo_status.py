"""How many bytes of node status Argo keeps of a run, from the compiled pipeline and its arguments.

Kubeflow 2.17 turns a step into six nodes (kubeflow/pipelines, backend/src/v2/compiler/argocompiler): the pod of its
driver, the executor's DAG and the executor's pod, each below a node for its attempts. Argo keeps each node's inputs and
outputs in full, as strings of JSON. Ten of them are long:

- the driver's two: `component` and `container` go in (`task` and `kubernetes-config` too), `pod-spec-patch` comes out;
- the executor's four: `pod-spec-patch` goes in.

`pod-spec-patch` is the pod's container as JSON (argo_nodes.py), of which `--executor_input` holds the values of
all inputs and the artifacts' addresses. So a param's text stands six times a step, as JSON in JSON in JSON: there each
of its quotes takes 8 bytes. A DAG is four nodes, and a loop's item six more; their drivers get `component` and `task`.

docs/results/kubeflow.md compares the sum with what a cluster showed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support.argo_nodes import WORKFLOW, compact_json, node_bytes, pod_spec_patch

_KEYS = ("code", "data")
_FACTS = {"candidate": "resunet", "key": "0" * 12, "weights_sha256": "0" * 12, "val_dice": 0.9123456789}
_DAG_OUTPUTS = {"execution-id": "123", "iteration-count": "0", "condition": "true"}


def params_bytes(documents: list[dict[str, Any]], arguments: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of the params that a step is given, as JSON and without the cache's keys, by step; the largest."""
    run = _Run(*documents)
    run.bytes_of(arguments)
    return {name: max(size for step, size in run.params if step == name) for name, _ in run.params}


def status_bytes(documents: list[dict[str, Any]], arguments: Mapping[str, Any]) -> int:
    """Bytes of `status.nodes`, raw, of a run in which every step runs once.

    Args:
        documents: the compiled pipeline: its specification, and what Kubernetes adds.
        arguments: of the run, by name.
    """
    return _Run(*documents).bytes_of(arguments)


class _Run:
    def __init__(self, spec: dict[str, Any], platform: dict[str, Any]) -> None:
        self._spec, self.total, self._candidates = spec, 0, 0
        self._executors = spec["deploymentSpec"]["executors"]
        self._pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        self.params: list[tuple[str, int]] = []

    def bytes_of(self, arguments: Mapping[str, Any]) -> int:
        root, path = self._spec["root"], f"{WORKFLOW}(0)"
        defaults = root["inputDefinitions"]["parameters"]
        given = {name: one.get("defaultValue") for name, one in defaults.items()} | dict(arguments)
        self._candidates = len(given["candidates"])
        self.total += node_bytes(WORKFLOW, "entrypoint", {})
        driver = {"component": compact_json(root), "runtime-config": compact_json(given), "driver-type": "ROOT_DAG"}
        self._driver(f"{path}.root", "system-dag-driver", driver, _DAG_OUTPUTS)
        self._group(f"{path}.root", "root")
        self._dag(root, f"{path}.root(0)", given)
        return self.total

    def _driver(self, path: str, template: str, values: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        values = {"parent-dag-id": "0", "iteration-index": "-1", "task-name": path.rpartition(".")[2], **values}
        self.total += node_bytes(f"{path}-driver", template, values, outputs, pod=True)

    def _group(self, path: str, template: str, **values: str) -> None:
        self.total += node_bytes(path, template, {"parent-dag-id": "123", **values})

    def _dag(self, component: dict[str, Any], path: str, given: Mapping[str, Any]) -> None:
        for name, task in component["dag"]["tasks"].items():
            inner = self._spec["components"][task["componentRef"]["name"]]
            if "dag" not in inner:
                self._step(name, task, inner, path, self._values(task, given))
                continue
            driver = {"component": compact_json(inner), "task": compact_json(task)}
            template = task["componentRef"]["name"]
            if "parameterIterator" not in task:
                self._driver(f"{path}.{name}", "system-dag-driver", driver, _DAG_OUTPUTS)
                self._group(f"{path}.{name}", template)
                self._dag(inner, f"{path}.{name}(0)", self._values(task, given))
                continue
            iterator = task["parameterIterator"]
            source = iterator["items"]
            items = (
                json.loads(source["raw"]) if "raw" in source else self._values(task, given)[source["inputParameter"]]
            )
            self._group(f"{path}.{name}", f"{template}-{name}-iterator")
            here = f"{path}.{name}(0).iteration"
            self._driver(here, "system-dag-driver", driver, _DAG_OUTPUTS)
            self.total += node_bytes(f"{here}-iterations", f"{template}-iteration", {}, children=len(items), attempts=0)
            for number, item in enumerate(items):
                there = f"{here}-iterations({number}:{number})"
                self._group(there, f"{template}-iteration", **{"iteration-index": str(number)})
                self._driver(f"{there}(0).iteration-item", "system-dag-driver", driver, _DAG_OUTPUTS)
                self._group(f"{there}(0).iteration-item", template)
                values = self._values(task, given) | {iterator["itemInput"]: item}
                self._dag(inner, f"{there}(0).iteration-item(0)", values)

    def _values(self, task: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a task's parameters."""
        values: dict[str, Any] = {}
        for name, source in task.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in source:
                value: Any = given.get(source["componentInputParameter"])
                chosen = source.get("parameterExpressionSelector", "")
                if chosen.startswith("parseJson"):
                    value = value[chosen.partition('["')[2].rpartition('"]')[0]]
                values[name] = value
            elif "runtimeValue" in source:
                values[name] = source["runtimeValue"]["constant"]
            else:
                values[name] = "0" * 38  # another step's output: a hash
        return values

    def _step(
        self, name: str, task: dict[str, Any], component: dict[str, Any], path: str, values: dict[str, Any]
    ) -> None:
        label = component["executorLabel"]
        container, pod = self._executors[label]["container"], self._pods.get(label, {})
        self.params.append((name, len(compact_json({key: one for key, one in values.items() if key not in _KEYS}))))
        patch = pod_spec_patch(name, component, container, pod, values, facts=_FACTS, listed=self._candidates)
        driver = {
            "component": compact_json(component),
            "task": compact_json(task),
            "container": compact_json(container),
            "kubernetes-config": compact_json(pod),
        }
        outputs = {"pod-spec-patch": patch, "cached-decision": "false", "condition": "true"}
        self._driver(f"{path}.{name}", "system-container-driver", driver, outputs)
        labels = pod.get("podMetadata", {}).get("labels", {})
        given = {"pod-spec-patch": patch}
        for key, value in labels.items():
            given |= {"pod-metadata-label-key": key, "pod-metadata-label-val": value}
        if retry := task.get("retryPolicy"):
            given |= {
                "retry-max-count": str(retry["maxRetryCount"]),
                "retry-backoff-duration": retry["backoffDuration"],
                "retry-backoff-factor": str(retry["backoffFactor"]),
                "retry-backoff-max-duration": retry["backoffMaxDuration"],
            }
        template = "metadata-0-1-retry-system-container"
        self.total += node_bytes(f"{path}.{name}", f"{template}-executor", given | {"cached-decision": "false"})
        self.total += node_bytes(f"{path}.{name}(0).executor", f"{template}-impl", given, {}, pod=True)
