"""How many bytes of node status Argo keeps of a run, from the compiled pipeline and its arguments.

Kubeflow 2.17 turns a step into six nodes (kubeflow/pipelines, backend/src/v2/compiler/argocompiler): the pod of its
driver, the executor's DAG and the executor's pod, each below a node for its attempts. Argo keeps each node's inputs and
outputs in full, as strings of JSON. Ten of them are long:

- the driver's two: `component` and `container` go in (`task` and `kubernetes-config` too), `pod-spec-patch` comes out;
- the executor's four: `pod-spec-patch` goes in.

`pod-spec-patch` is the pod's container as JSON: the launcher's arguments, of which `--executor_input` holds the values
of all inputs and the artifacts' addresses and `--component_spec` the component, then the step's command with the
component's source. So a param's text stands six times a step, as JSON in JSON in JSON: there each of its quotes takes 8
bytes. A DAG is four nodes, and a loop's item six more; their drivers get `component` and `task` too.

What else a node holds (ids, template, phase, times, children) is `NODE_BYTES` and its path; the launcher's other
arguments, mounts and environment are `LAUNCHER_BYTES`. docs/results.md compares the sum with what a cluster showed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

NODE_BYTES = 650
LAUNCHER_BYTES = 1200
_ADDRESS = "minio://mlpipeline/v2/artifacts/segops-training/{uuid}/{step}/{uuid}/{name}"
_KEYS = ("code", "data")
_UUID = "00000000-0000-0000-0000-000000000000"
_WORKFLOW = "segops-training-abcde"
# How the launcher reaches the artifact store, kept with each artifact, and what our steps say of one, such as a model.
_STORE = {
    "Provider": "minio",
    "Params": {
        "accessKeyKey": "accesskey",
        "disableSSL": "true",
        "endpoint": "minio-service.kubeflow:9000",
        "forcePathStyle": "true",
        "fromEnv": "false",
        "maxRetries": "5",
        "region": "minio",
        "secretKeyKey": "secretkey",
        "secretName": "mlpipeline-minio-artifact",
    },
}
_FACTS = {"candidate": "resunet", "key": "0" * 64, "weights_sha256": "0" * 64, "val_dice": 0.9123456789}


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
        root, path = self._spec["root"], f"{_WORKFLOW}(0)"
        defaults = root["inputDefinitions"]["parameters"]
        given = {name: one.get("defaultValue") for name, one in defaults.items()} | dict(arguments)
        self._candidates = len(given["candidates"])
        self._nodes(path, {}, 2)
        self._nodes(f"{path}.root-driver", {"component": _json(root), "runtime-config": _json(given)}, 2)
        self._nodes(f"{path}.root", {"parent-dag-id": "1"}, 2)
        self._dag(root, f"{path}.root(0)", given)
        return self.total

    def _nodes(self, path: str, values: Mapping[str, str], count: int) -> None:
        """A node as what holds its attempts and as the attempt."""
        held = json.dumps([{"name": name, "value": value} for name, value in values.items()])
        self.total += count * (NODE_BYTES + len(path) + len(held))

    def _dag(self, component: dict[str, Any], path: str, given: Mapping[str, Any]) -> None:
        for name, task in component["dag"]["tasks"].items():
            inner = self._spec["components"][task["componentRef"]["name"]]
            if "dag" not in inner:
                self._step(name, task, inner, path, self._values(task, given))
                continue
            driver = {"component": _json(inner), "task": _json(task)}
            if "parameterIterator" not in task:
                self._nodes(f"{path}.{name}-driver", driver, 2)
                self._nodes(f"{path}.{name}", {"parent-dag-id": "1"}, 2)
                self._dag(inner, f"{path}.{name}(0)", self._values(task, given))
                continue
            iterator = task["parameterIterator"]
            source = iterator["items"]
            items = (
                json.loads(source["raw"]) if "raw" in source else self._values(task, given)[source["inputParameter"]]
            )
            self._nodes(f"{path}.{name}", {"parent-dag-id": "1"}, 2)
            self._nodes(f"{path}.{name}(0).iteration-driver", driver, 2)
            self._nodes(f"{path}.{name}(0).iteration-iterations", {}, 1)
            for number, item in enumerate(items):
                here = f"{path}.{name}(0).iteration-iterations({number}:{number})"
                self._nodes(here, {"parent-dag-id": "1", "iteration-index": "0"}, 2)
                self._nodes(f"{here}(0).iteration-item-driver", driver, 2)
                self._nodes(f"{here}(0).iteration-item", {"parent-dag-id": "1"}, 2)
                values = self._values(task, given) | {iterator["itemInput"]: item}
                self._dag(inner, f"{here}(0).iteration-item(0)", values)

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
                values[name] = "0" * 64  # another step's output: a hash
        return values

    def _step(
        self, name: str, task: dict[str, Any], component: dict[str, Any], path: str, values: dict[str, Any]
    ) -> None:
        label = component["executorLabel"]
        container = self._executors[label]["container"]
        self.params.append((name, len(_json({key: value for key, value in values.items() if key not in _KEYS}))))
        patch = _json(
            {
                "containers": [
                    {
                        "name": "main",
                        "image": container["image"],
                        "command": [
                            "x" * LAUNCHER_BYTES,
                            _json(_executor_input(name, component, values, self._candidates)),
                            _json(component),
                        ],
                        "args": [*container["command"], *container["args"]],
                        "env": container.get("env"),
                        "resources": container.get("resources"),
                    }
                ]
            }
        )
        driver = {
            "component": _json(component),
            "task": _json(task),
            "container": _json(container),
            "kubernetes-config": _json(self._pods.get(label, {})),
            "pod-spec-patch": patch,
        }
        self._nodes(f"{path}.{name}-driver", driver, 2)
        self._nodes(f"{path}.{name}", {"pod-spec-patch": patch}, 2)
        self._nodes(f"{path}.{name}(0).executor", {"pod-spec-patch": patch}, 2)


def _executor_input(step: str, component: dict[str, Any], values: dict[str, Any], candidates: int) -> dict[str, Any]:
    """What the driver works out: values, and artifacts with their addresses; those that come in with what is known."""

    def artifact(name: str, about: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
        uri = _ADDRESS.format(step=step, uuid=_UUID, name=name)
        one = {"name": name, "type": about["artifactType"], "uri": uri, "metadata": metadata}
        return {"artifacts": [one] * (candidates if about.get("isArtifactList") else 1)}

    inputs = component.get("inputDefinitions", {}).get("artifacts", {})
    outputs = component.get("outputDefinitions", {}).get("artifacts", {})
    known = {"store_session_info": _json(_STORE), **_FACTS}
    return {
        "inputs": {
            "parameterValues": values,
            "artifacts": {name: artifact(name, one, {"display_name": name, **known}) for name, one in inputs.items()},
        },
        "outputs": {
            "artifacts": {name: artifact(name, one, {}) for name, one in outputs.items()},
            "outputFile": "/tmp/kfp_outputs/output_metadata.json",
        },
    }


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
