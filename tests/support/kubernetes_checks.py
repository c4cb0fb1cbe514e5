"""What Kubernetes' schema can't say of rendered manifests. Each check yields a line a problem; none: all is well."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import yaml

from infra.kubernetes import manifests
from tools import kubernetes_schemas as schemas

Object = dict[str, Any]

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
STEP = {"pipelines.kubeflow.org/v2_component": "true"}  # the label of Kubeflow's steps
# Pods that other people's manifests make, by namespace.
FOREIGN = {
    "kube-system": {"k8s-app": "kube-dns"},
    "ingress-nginx": {"app.kubernetes.io/name": "ingress-nginx"},
}


def load(overlay: str) -> list[Object]:
    """A rendered overlay."""
    return list(yaml.safe_load_all((manifests.RENDERED / f"{overlay}.yaml").read_text(encoding="utf-8")))


@cache
def _schema(release: str, name: str) -> jsonschema.Draft202012Validator:
    """The validator of a kind, such as io.k8s.api.apps.v1.Deployment."""
    whole = json.loads((manifests.HERE.parents[1] / schemas.FOLDER / f"{release}.json").read_text(encoding="utf-8"))
    assert name in whole["$defs"], f"{name} has no schema: make kubernetes-schemas"
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", **whole})


def invalid(objects: list[Object], release: str) -> Iterator[str]:
    """What a release's strict schema says against these objects of Kubernetes."""
    for one in objects:
        for error in _schema(release, schemas.definition(one)).iter_errors(one):
            yield f"{name_of(one)}: {error.json_path}: {error.message}"


def find(objects: list[Object], kind: str, name: str) -> Any:
    """The object of this name, or of this name and the hash that kustomize adds."""
    exact = re.compile(rf"{name}(-[a-z0-9]{{10}})?")
    return next(one for one in of_kind(objects, kind) if exact.fullmatch(one["metadata"]["name"]))


def name_of(one: Object) -> str:
    """kind/name"""
    return f"{one['kind']}/{one['metadata']['name']}"


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """The objects of these kinds."""
    return [one for one in objects if one["kind"] in kinds]


def workloads(objects: list[Object]) -> list[tuple[Object, Object]]:
    """Objects that make pods, with the pod they make."""
    made = [(one, one["spec"]["template"]) for one in of_kind(objects, "Deployment", "StatefulSet", "Job")]
    return made + [(one, one["spec"]["jobTemplate"]["spec"]["template"]) for one in of_kind(objects, "CronJob")]


def containers(objects: list[Object]) -> Iterator[tuple[Object, Object, Object, bool]]:
    """Each container: the object, the pod's spec, the container, whether it goes on for good."""
    for one, pod in workloads(objects):
        for container in pod["spec"].get("initContainers", []):
            yield one, pod["spec"], container, False
        for container in pod["spec"]["containers"]:
            yield one, pod["spec"], container, one["kind"] not in ("Job", "CronJob")


def unlocked(objects: list[Object]) -> Iterator[str]:
    """Containers that may do more than they need, or whose limits or probes are missing."""
    for one, pod, container, lasting in containers(objects):
        own, shared = container.get("securityContext", {}), pod.get("securityContext", {})
        wanted = {
            "non-root": shared.get("runAsNonRoot") is True and shared.get("runAsUser", 0) >= 10_000,
            "seccomp": shared.get("seccompProfile") == {"type": "RuntimeDefault"},
            "read-only root": own.get("readOnlyRootFilesystem") is True,
            "no escalation": own.get("allowPrivilegeEscalation") is False and not own.get("privileged"),
            "no capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "no token": pod.get("automountServiceAccountToken") is False,
            "own namespaces": not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(),
            "no host path": not any("hostPath" in volume for volume in pod.get("volumes", [])),
            "a tag": re.fullmatch(r".+(:[^:/]+|@sha256:.+)", container["image"])
            and ":latest" not in container["image"],
        }
        for side in ("requests", "limits"):
            wanted[side] = {"cpu", "memory"} <= container.get("resources", {}).get(side, {}).keys()
        for probe in PROBES if lasting else ():
            wanted[probe] = probe in container
        yield from (f"{name_of(one)}, {container['name']}: {name}" for name, there in wanted.items() if not there)


def references(pod: Object) -> Iterator[tuple[str, str, str | None]]:
    """What a pod's spec refers to: kind, name, and a secret's key."""
    for volume in pod.get("volumes", []):
        for field, kind, key in (
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
        ):
            if field in volume:
                yield kind, volume[field][key], None
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        yield from (("ConfigMap", source["configMapRef"]["name"], None) for source in container.get("envFrom", []))
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", reference["name"], reference["key"]


def unresolved(objects: list[Object]) -> Iterator[str]:
    """References to secrets, config maps, claims, accounts and volumes that nothing in the set answers."""
    there = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): one for one in objects}
    asked = [(one, *reference) for one, pod in workloads(objects) for reference in references(pod["spec"])]
    for binding in of_kind(objects, "RoleBinding"):
        asked.append((binding, "Role", binding["roleRef"]["name"], None))
        subjects = [subject for subject in binding["subjects"] if subject["kind"] != "Group"]  # which nothing defines
        asked += [(binding, subject["kind"], subject["name"], None) for subject in subjects]
    for one, kind, name, key in asked:
        found = there.get((kind, one["metadata"]["namespace"], name))
        if found is None or (key is not None and key not in found["data"]):
            yield f"{name_of(one)}: {kind}/{name} {key or ''}"
    for one, pod_spec, container, _ in containers(objects):
        claims = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
        known = claims | {volume["name"] for volume in pod_spec.get("volumes", [])}
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        yield from (f"{name_of(one)}: volume {name}" for name in sorted(mounts - known))


def ports_of(pod: Object) -> dict[str | int, int]:
    """A pod's open ports by name and by number."""
    listed = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    return {key: port["containerPort"] for port in listed for key in (port["name"], port["containerPort"])}


def matches(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        rule["operator"] == "In" and labels.get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", [])
    )


def selected(objects: list[Object], selector: Object, namespace: str) -> dict[str, Object]:
    """The pods that a selector takes, by their object's name."""
    return {
        one["metadata"]["name"]: pod
        for one, pod in workloads(objects)
        if one["metadata"]["namespace"] == namespace and matches(selector, pod["metadata"]["labels"])
    }


def services_of(objects: list[Object]) -> dict[tuple[str, str], Object]:
    """Services by namespace and name."""
    return {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in of_kind(objects, "Service")}


def deaf_services(objects: list[Object]) -> Iterator[str]:
    """Services that lead to no pod, or to a port at which nobody listens."""
    for (namespace, _), service in services_of(objects).items():
        pods = selected(objects, {"matchLabels": service["spec"]["selector"]}, namespace)
        if not pods:
            yield f"{name_of(service)}: no pod"
        for port in service["spec"]["ports"]:
            if any(port["targetPort"] not in ports_of(pod) for pod in pods.values()):
                yield f"{name_of(service)}: port {port['targetPort']}"


def mislabelled(objects: list[Object]) -> Iterator[str]:
    """Workloads that don't select their own pods, lack their Service, or probe a port that they don't open."""
    for one, pod in workloads(objects):
        if not matches(one["spec"].get("selector", {}), pod["metadata"]["labels"]):
            yield f"{name_of(one)}: selector"
        if one["kind"] == "StatefulSet":
            service = (one["metadata"]["namespace"], one["spec"]["serviceName"])
            yield from [] if service in services_of(objects) else [f"{name_of(one)}: serviceName"]
        for container in pod["spec"]["containers"]:
            probed = {container[probe].get("httpGet", {}).get("port") for probe in PROBES if probe in container}
            if not probed <= {None, *ports_of(pod)}:
                yield f"{name_of(one)}: probe"


def misdirected(objects: list[Object]) -> Iterator[str]:
    """Ingresses to no port of a Service; budgets that cover no pod, or let none be drained."""
    for ingress in of_kind(objects, "Ingress"):
        for path in (path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]):
            backend = path["backend"]["service"]
            service = services_of(objects).get((ingress["metadata"]["namespace"], backend["name"]))
            if service is None or backend["port"]["name"] not in {port["name"] for port in service["spec"]["ports"]}:
                yield f"{name_of(ingress)}: {backend['name']}"
    for budget in of_kind(objects, "PodDisruptionBudget"):
        chosen = selected(objects, budget["spec"]["selector"], budget["metadata"]["namespace"])
        replicas = sum(one["spec"]["replicas"] for one, _ in workloads(objects) if one["metadata"]["name"] in chosen)
        if budget["spec"]["minAvailable"] >= replicas:
            yield f"{name_of(budget)}: nothing may ever be drained"


def peers(objects: list[Object], peer: Object, namespace: str, pipeline: str) -> set[str]:
    """Who stands behind a network policy's peer: our pods by name, `pipeline`, or a foreign namespace."""
    if "namespaceSelector" not in peer:
        return set(selected(objects, peer["podSelector"], namespace))
    there = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    if there == pipeline and matches(peer["podSelector"], STEP):
        return {"pipeline"}
    return {there} if there in FOREIGN and matches(peer["podSelector"], FOREIGN[there]) else set()


def reach(objects: list[Object]) -> dict[str, set[tuple[str, str, int]]]:
    """What the network policies allow: `ingress` as (from, to, port), `egress` likewise."""
    pipeline = next(one["metadata"]["namespace"] for one in of_kind(objects, "ServiceAccount"))
    allowed: dict[str, set[tuple[str, str, int]]] = {"ingress": set(), "egress": set()}
    for policy in of_kind(objects, "NetworkPolicy"):
        spec, namespace = policy["spec"], policy["metadata"]["namespace"]
        own = selected(objects, spec["podSelector"], namespace)
        for side, key in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(side, []):
                others = {name for peer in rule[key] for name in peers(objects, peer, namespace, pipeline)}
                for port in rule["ports"]:
                    ends = ((other, one) if side == "ingress" else (one, other) for one in own for other in others)
                    allowed[side] |= {(*pair, port["port"]) for pair in ends}
    return allowed
