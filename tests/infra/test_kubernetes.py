"""The rendered manifests: valid by schema, closed by default, and in agreement with the pipeline and with MLflow."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import yaml

from infra.kubernetes import manifests
from segops.secrets import channel_fault
from tests.support import kubernetes_checks as checks
from tests.support.kubernetes_checks import Object, find, load, of_kind
from tools.kubernetes_schemas import RELEASES

ROOT = manifests.HERE.parents[1]
Check = Callable[[list[Object]], Iterator[str]]
CHECKS: list[Check] = [
    checks.unlocked,
    checks.unresolved,
    checks.deaf_services,
    checks.mislabelled,
    checks.misdirected,
]


@pytest.fixture(params=manifests.OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def objects(overlay: str) -> list[Object]:
    return load(overlay)


@pytest.mark.parametrize("release", RELEASES)
def test_every_object_is_valid_by_the_schema_of_kubernetes(objects: list[Object], release: str) -> None:
    assert list(checks.invalid(objects, release)) == []


@pytest.mark.parametrize("release", RELEASES)
def test_the_schema_is_strict(release: str) -> None:
    objects = load("production")
    deployment = find(objects, "Deployment", "mlflow")["spec"]
    deployment["replica"] = deployment.pop("replicas")
    find(objects, "StatefulSet", "postgresql")["spec"]["replicas"] = "1"
    find(objects, "Ingress", "mlflow")["spec"]["rules"][0]["http"]["paths"][0].pop("pathType")
    assert list(checks.invalid(objects, release)) == [
        "Deployment/mlflow: $.spec: Additional properties are not allowed ('replica' was unexpected)",
        "StatefulSet/postgresql: $.spec.replicas: '1' is not of type 'integer', 'null'",
        "Ingress/mlflow: $.spec.rules[0].http.paths[0]: 'pathType' is a required property",
    ]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl on the PATH")
def test_the_rendered_file_is_what_kustomize_prints(overlay: str) -> None:
    assert (manifests.RENDERED / f"{overlay}.yaml").read_text(encoding="utf-8") == manifests.rendered(overlay)


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_is_found(objects: list[Object], check: Check) -> None:
    assert list(check(objects)) == []


def _pod(objects: list[Object]) -> Any:
    return find(objects, "Deployment", "mlflow")["spec"]["template"]["spec"]


def _container(objects: list[Object]) -> Any:
    return _pod(objects)["containers"][0]


BREAKAGES: dict[str, Callable[[list[Object]], object]] = {
    "Deployment/mlflow, mlflow: non-root": lambda o: _pod(o)["securityContext"].update(runAsUser=0),
    "Deployment/mlflow, mlflow: read-only root": lambda o: _container(o)["securityContext"].clear(),
    "Deployment/mlflow, mlflow: no escalation": lambda o: _container(o)["securityContext"].update(privileged=True),
    "Deployment/mlflow, migrate: limits": lambda o: _pod(o)["initContainers"][0]["resources"]["limits"].pop("memory"),
    "Deployment/mlflow, mlflow: livenessProbe": lambda o: _container(o).pop("livenessProbe"),
    "Deployment/mlflow, mlflow: a tag": lambda o: _container(o).update(image="segops/mlflow:latest"),
    "Deployment/mlflow: volume scratch": lambda o: _pod(o)["volumes"].pop(),
    "Deployment/mlflow: selector": lambda o: find(o, "Deployment", "mlflow")["spec"]["selector"].update(
        matchLabels={"app": "other"}
    ),
    "StatefulSet/postgresql: Secret/": lambda o: find(o, "Secret", "servers")["data"].pop("POSTGRES_PASSWORD"),
    "StatefulSet/postgresql: serviceName": lambda o: o.remove(find(o, "Service", "postgresql")),
    "StatefulSet/seaweedfs: ConfigMap/": lambda o: o.remove(find(o, "ConfigMap", "seaweedfs")),
    "StatefulSet/seaweedfs: probe": lambda o: find(o, "StatefulSet", "seaweedfs")["spec"]["template"]["spec"][
        "containers"
    ][0]["ports"].clear(),
    "RoleBinding/segops-pipeline: ServiceAccount/": lambda o: o.remove(find(o, "ServiceAccount", "segops-pipeline")),
    "RoleBinding/segops-pipeline: Role/": lambda o: find(o, "Role", "segops-pipeline")["metadata"].update(
        namespace="x"
    ),
    "Service/mlflow: port http": lambda o: _container(o)["ports"][0].update(name="web"),
    "Service/seaweedfs: no pod": lambda o: find(o, "Service", "seaweedfs")["spec"]["selector"].update(a="b"),
    "Ingress/mlflow: mlflow": lambda o: find(o, "Service", "mlflow")["spec"]["ports"][0].update(name="web"),
    "PodDisruptionBudget/mlflow": lambda o: find(o, "Deployment", "mlflow")["spec"].update(replicas=1),
}


@pytest.mark.parametrize("problem", BREAKAGES)
def test_a_broken_thing_is_found(problem: str) -> None:
    objects = load("production")
    BREAKAGES[problem](objects)
    assert any(line.startswith(problem) for check in CHECKS for line in check(objects))


def test_every_address_of_mlflow_may_be_sent_a_password() -> None:
    texts = [
        path.read_text(encoding="utf-8") for path in [*manifests.RENDERED.glob("*.yaml"), manifests.HERE / "README.md"]
    ]
    addresses = {address for text in texts for address in re.findall(r"http://mlflow[\w.:-]*", text)}
    assert addresses
    assert [fault for address in addresses if (fault := channel_fault(address, "a password"))] == []


def _namespaces(objects: list[Object]) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["namespace"] for one, _ in checks.workloads(objects)}


def test_only_those_reach_a_server_who_use_it(objects: list[Object], overlay: str) -> None:
    servers = {name for name, one in _namespaces(objects).items() if one == "segops"}
    allowed = checks.reach(objects)
    extra = {("ingress-nginx", "mlflow", 5000)} if overlay == "production" else set()
    inner = {("mlflow", "postgresql", 5432), ("mlflow", "seaweedfs", 8333), ("buckets", "seaweedfs", 8333)}
    inner |= {("mlflow", "watch", 8787), ("watch", "mlflow", 5000)}
    inner |= {(name, *to) for name in ("backup", "restore") for to in (("postgresql", 5432), ("seaweedfs", 8333))}
    steps = {("pipeline", "mlflow", 5000), ("pipeline", "postgresql", 5432), ("pipeline", "seaweedfs", 8333)}
    assert allowed["ingress"] == inner | steps | extra
    assert allowed["egress"] == inner | {(one, "kube-system", 53) for one in servers}
    deny = find(objects, "NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_a_policy_for_another_namespace_or_label_lets_nobody_in() -> None:
    whole = checks.reach(load("local"))["ingress"]
    for key in ("namespaceSelector", "podSelector"):
        objects = load("local")
        labels = find(objects, "NetworkPolicy", "mlflow")["spec"]["ingress"][0]["from"][0][key]["matchLabels"]
        labels[next(iter(labels))] = "elsewhere"
        assert whole - checks.reach(objects)["ingress"] == {("pipeline", "mlflow", 5000)}


def test_the_pipelines_account_reads_no_secret_of_ours_and_nothing_as_a_whole(objects: list[Object]) -> None:
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")
    (role,) = of_kind(objects, "Role")
    for rule in role["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert not {"create", "delete", "update"} & set(rule["verbs"]) or rule["apiGroups"] == ["argoproj.io"]
        if "secrets" in rule["resources"]:
            assert rule["resourceNames"] == ["mlpipeline-minio-artifact"]
            assert rule["verbs"] == ["get"]


def readme_block(start: str) -> dict[str, Any]:
    """The YAML in the README that begins so."""
    text = (manifests.HERE / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"```yaml\n({start}.*?)```", text, re.DOTALL)
    values: dict[str, Any] = yaml.safe_load(block)
    return values


def kubeflow_section() -> dict[str, Any]:
    """The section of params.yaml that the README gives."""
    section: dict[str, Any] = readme_block("kubeflow:")["kubeflow"]
    return section


def test_the_quota_holds_as_many_gpus_as_the_readme_asks_for() -> None:
    from segops.params.kubeflow import KubeflowParams

    params = KubeflowParams.model_validate(readme_block("# kubeflow, on a cluster with GPUs"))
    profile = params.profiles[params.train_profile]
    hard = find(load("production"), "ResourceQuota", "gpus")["spec"]["hard"]
    assert hard == {f"requests.{profile.accelerator}": str(profile.accelerators * params.parallelism)}


@cache
def steps_of_the_readme() -> dict[str, Any]:
    """What the pipeline asks of Kubernetes by step, with the section that the README gives."""
    from pipelines.compiled import compile_pipeline
    from segops.params.project import Params, load_params

    given = load_params(ROOT / "params.yaml").model_dump(mode="json", by_alias=True)
    params = Params.model_validate({**given, "kubeflow": {**given["kubeflow"], **kubeflow_section()}})
    platform = list(yaml.safe_load_all(compile_pipeline(params)))[1]
    steps: dict[str, Any] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return steps


def test_what_the_readme_says_to_put_into_params_is_what_is_deployed(objects: list[Object]) -> None:
    steps = steps_of_the_readme()
    pipeline = find(objects, "ServiceAccount", "segops-pipeline")["metadata"]["namespace"]
    asked = set()
    for step in steps.values():
        for secret in step["secretAsEnv"]:
            there = find(objects, "Secret", secret["secretName"])
            assert there["metadata"]["namespace"] == pipeline
            asked |= {(secret["secretName"], one["secretKey"]) for one in secret["keyToEnv"]}
    assert {name for name, _ in asked} == {"segops-s3", "segops-mlflow", "segops-optuna"}
    assert all(key in find(objects, "Secret", name)["data"] for name, key in asked)
    (mount,) = steps["exec-train"]["pvcMount"]
    assert mount["constant"] == find(objects, "PersistentVolumeClaim", "segops-checkpoints")["metadata"]["name"]
    (job,) = find(objects, "Job", "segops-checkpoints")["spec"]["template"]["spec"]["containers"]
    assert mount["mountPath"] == job["volumeMounts"][0]["mountPath"]


def test_the_volume_is_given_to_the_group_of_the_images(objects: list[Object]) -> None:
    dockerfile = (ROOT / "infra" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    (user,) = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)
    context = find(objects, "Job", "segops-checkpoints")["spec"]["template"]["spec"]["securityContext"]
    assert (str(context["runAsUser"]), str(context["fsGroup"])) == user


def test_addresses_in_params_and_in_settings_are_those_of_services(objects: list[Object]) -> None:
    services = {one["metadata"]["name"]: one for one in of_kind(objects, "Service")}
    settings = find(objects, "ConfigMap", "mlflow")["data"]
    (job,) = find(objects, "Job", "buckets")["spec"]["template"]["spec"]["containers"]
    inside = [settings["MLFLOW_S3_ENDPOINT_URL"], f"http://{settings['PGHOST']}:{settings['PGPORT']}"]
    inside += [variable["value"] for variable in job["env"] if variable["name"] == "AWS_ENDPOINT_URL"]
    outside = [kubeflow_section()["environment"][name] for name in ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL")]
    for address in [*inside, *outside]:
        host, port = address.removeprefix("http://").split(":")
        name, _, namespace = host.removesuffix(".svc").partition(".")
        assert int(port) in {one["port"] for one in services[name]["spec"]["ports"]}
        # Kubeflow's namespace has a service `seaweedfs` of its own.
        assert namespace == "segops" or (address in inside and name != "seaweedfs"), address
    assert outside[0].removeprefix("http://") in settings["ALLOWED_HOSTS"].split(",")
    bucket = settings["ARTIFACTS_DESTINATION"].partition("://")[2].partition("/")[0]
    assert bucket in job["command"]


def test_overlays_differ_where_they_should() -> None:
    local, production = load("local"), load("production")
    assert not of_kind(local, "ResourceQuota", "Ingress", "PodDisruptionBudget")
    assert find(production, "Deployment", "mlflow")["spec"]["replicas"] == 2
    assert all("@sha256:" in image for image in manifests.images(production))
    # Images that are built on the spot have no digest.
    assert {image for image in manifests.images(local) if "@" not in image} == {
        "segops/data-python:0.1.0",
        "segops/mlflow:0.1.0",
    }
