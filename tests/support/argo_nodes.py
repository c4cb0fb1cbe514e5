"""A node of Argo's status (argo-workflows v4.0.8, `NodeStatus`) and the pod of a step as Kubeflow 2.17's driver has it.

Names and values that a run alone knows are of their usual length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

WORKFLOW = "segops-training-abcde"
_UUID = "00000000-0000-0000-0000-000000000000"
_ID = f"{WORKFLOW}-1234567890"
_TIME = "2026-11-26T16:49:28Z"
_ROOT = "mlpipeline/v2/artifacts/segops-training/{uuid}/{step}/{uuid}"
_LOG = f"private-artifacts/kubeflow/{WORKFLOW}/2026/11/26/{WORKFLOW}-system-container-driver-1234567890/main.log"
# Outputs of a driver come from files, and an input that may be left out has a default.
_DEFAULTS = {
    "cached-decision": "false",
    "condition": "true",
    "iteration-count": "0",
    "iteration-index": "-1",
    "kubernetes-config": "",
    "parent-dag-id": "0",
    "pod-spec-patch": "",
    "task": "",
    "task-name": "",
}
# How the launcher reaches the artifact store, kept with each artifact.
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


def node_bytes(
    path: str,
    template: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str] | None = None,
    *,
    pod: bool = False,
    children: int = 1,
    attempts: int = 1,
) -> int:
    """Bytes of a template's node and of those of its attempts, with their keys in `status.nodes`.

    Args:
        path: from the workflow to the node.
        inputs, outputs: parameters by name.
        pod: whether an attempt is a pod, whose log is kept.
        children: how many nodes the outer one has below it.
        attempts: 0 for a group that isn't retried.
    """
    total = 0
    for number in range(attempts + 1):
        attempt = number > 0
        node: dict[str, Any] = {
            "id": _ID,
            "name": f"{path}(0)" if attempt else path,
            "displayName": path.rpartition(".")[2] + ("(0)" if attempt else ""),
            "type": ("Pod" if pod else "DAG") if attempt else "Retry" if attempts else "TaskGroup",
            "templateName": template,
            "templateScope": f"local/{WORKFLOW}",
            "phase": "Succeeded",
            "boundaryID": _ID,
            "startedAt": _TIME,
            "finishedAt": _TIME,
            "progress": "12/12",
            "resourcesDuration": {"cpu": 12, "memory": 123},
        }
        if attempt:
            node["nodeFlag"] = {"retried": True}
        node["inputs"] = {"parameters": [_parameter(name, value) for name, value in inputs.items()]}
        if outputs is not None:
            node["outputs"] = {
                "parameters": [_parameter(name, value, written=True) for name, value in outputs.items()],
                "artifacts": [{"name": "main-logs", "s3": {"key": _LOG}}],
                "exitCode": "0",
            }
        node["children"] = [_ID] * children
        if pod and attempt:
            node |= {"hostNodeName": "kind-control-plane", "taskResultSynced": True}
        elif attempt:
            node["outboundNodes"] = [_ID]
        total += len(compact_json({_ID: node}))
    return total


def _parameter(name: str, value: str, *, written: bool = False) -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "value": value}
    if written:
        return parameter | {"valueFrom": {"path": f"/tmp/outputs/{name}", "default": _DEFAULTS.get(name, "")}}
    if name.startswith("retry-"):
        return parameter | {"default": "0"}
    return parameter | ({"default": _DEFAULTS[name]} if name in _DEFAULTS else {})


def pod_spec_patch(
    step: str,
    component: dict[str, Any],
    container: dict[str, Any],
    pod: dict[str, Any],
    values: Mapping[str, Any],
    *,
    facts: Mapping[str, Any],
    listed: int,
) -> str:
    """The pod of a step, as JSON.

    Args:
        component: its definition.
        container: its image, command and resources.
        pod: what Kubernetes adds: `kubernetes-config`.
        values: of its parameters.
        facts: what an artifact that comes in says of itself.
        listed: how many artifacts a list has.
    """
    launcher = [
        "/kfp-launcher/launch",
        *("--pipeline_name", "segops-training", "--run_id", _UUID, "--execution_id", "123"),
        *("--executor_input", compact_json(_executor_input(step, component, values, facts, listed))),
        *("--component_spec", compact_json(component)),
        *("--pod_name", "$(KFP_POD_NAME)", "--pod_uid", "$(KFP_POD_UID)"),
        *("--ml_pipeline_server_address", "ml-pipeline.kubeflow", "--ml_pipeline_server_port", "8887"),
        *("--mlmd_server_address", "metadata-grpc-service.kubeflow.svc.cluster.local", "--mlmd_server_port", "8080"),
        *("--publish_logs", "true", "--publish_logs", "true", "--"),
    ]
    environment = [
        *container.get("env", []),
        *(
            {
                "name": key["envVar"],
                "valueFrom": {
                    "secretKeyRef": {"name": secret["secretName"], "key": key["secretKey"], "optional": False}
                },
            }
            for secret in pod.get("secretAsEnv", [])
            for key in secret["keyToEnv"]
        ),
        *(
            {"name": field["name"], "valueFrom": {"fieldRef": {"fieldPath": field["fieldPath"]}}}
            for field in pod.get("fieldPathAsEnv", [])
        ),
    ]
    volumes = [
        {"name": one["volumeName"], "emptyDir": {"medium": one["medium"], "sizeLimit": one["sizeLimit"]}}
        for one in pod.get("emptyDirMounts", [])
    ] + [
        {"name": one["constant"], "persistentVolumeClaim": {"claimName": one["constant"]}}
        for one in pod.get("pvcMount", [])
    ]
    mounts = [
        {"name": one.get("volumeName") or one["constant"], "mountPath": one["mountPath"]}
        for one in (*pod.get("emptyDirMounts", []), *pod.get("pvcMount", []))
    ]
    main = {
        "name": "main",
        "image": container["image"],
        "command": launcher,
        "args": [*container["command"], *container["args"]],
        "env": environment,
        "resources": {
            "limits": {"cpu": "2", "memory": "8Gi"},
            "requests": {"cpu": "2", "memory": "8Gi"},
        },
        "volumeMounts": mounts,
    }
    return compact_json({"volumes": volumes, "containers": [main]})


def _executor_input(
    step: str, component: dict[str, Any], values: Mapping[str, Any], facts: Mapping[str, Any], listed: int
) -> dict[str, Any]:
    """What the driver works out: values, and artifacts with their addresses; those that come in with what is known."""
    root = _ROOT.format(step=step, uuid=_UUID)
    inputs = component.get("inputDefinitions", {}).get("artifacts", {})
    outputs = component.get("outputDefinitions", {})
    written = {name: one["artifactType"] for name, one in outputs.get("artifacts", {}).items()}
    written["executor-logs"] = {"schemaTitle": "system.Artifact"}  # stock manifests have PUBLISH_LOGS on
    return {
        "inputs": {
            "parameterValues": values,
            "artifacts": {
                name: {
                    "artifacts": [
                        {
                            "name": "123",
                            "uri": f"minio://{root}/{name}",
                            "metadata": {"display_name": name, "store_session_info": compact_json(_STORE), **facts},
                        }
                    ]
                    * (listed if about.get("isArtifactList") else 1)
                }
                for name, about in inputs.items()
            },
        },
        "outputs": {
            "parameters": {name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in outputs.get("parameters", {})},
            "artifacts": {
                name: {"artifacts": [{"name": name, "uri": f"minio://{root}/{name}", "type": kind, "metadata": {}}]}
                for name, kind in written.items()
            },
            "outputFile": f"/minio/{root}/output_metadata.json",
        },
    }


def compact_json(value: Any) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))
