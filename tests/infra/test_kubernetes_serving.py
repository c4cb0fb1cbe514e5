"""The champion behind HTTP: KServe's object, whose pod is held to the same rules as the servers'."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from infra.kubernetes import manifests
from tests.support import kubernetes_checks as checks
from tests.support.kubernetes_checks import Object, find, load
from tools.kubernetes_schemas import RELEASES

# The fields of a predictor beside a pod's, as far as they are used, with their JSON types: KServe's
# pkg/apis/serving/v1beta1/component.go, ComponentExtensionSpec (Apache-2.0).
PREDICTOR: dict[str, type] = {
    "minReplicas": int,
    "maxReplicas": int,
    "scaleMetric": str,
    "scaleTarget": int,
    "timeout": int,
    "labels": dict,
    "annotations": dict,
}
SCALE_METRICS = {"cpu", "memory", "concurrency", "rps"}
# What the cluster's people create, as README.md says.
ACCOUNT: Object = {
    "kind": "Secret",
    "metadata": {"name": "segops-serving", "namespace": "segops"},
    "data": {"MLFLOW_TRACKING_USERNAME": "", "MLFLOW_TRACKING_PASSWORD": ""},
}


@pytest.fixture
def objects() -> list[Object]:
    return load(manifests.SERVING)


def service_of(objects: list[Object]) -> Any:
    return find(objects, "InferenceService", "segmentation")


def as_deployment(objects: list[Object]) -> list[Object]:
    """The objects, with KServe's in place of the Deployment that it makes of it in this mode."""
    service = service_of(objects)
    predictor = service["spec"]["predictor"]
    pod = {
        "metadata": {"labels": predictor["labels"]},
        "spec": {name: value for name, value in predictor.items() if name not in PREDICTOR},
    }
    made = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "segmentation-predictor", "namespace": service["metadata"]["namespace"]},
        "spec": {"replicas": 1, "selector": {"matchLabels": predictor["labels"]}, "template": pod},
    }
    return [made if one is service else one for one in objects]


def test_kserves_object_has_fields_of_kserve_and_of_a_pod(objects: list[Object]) -> None:
    service = service_of(objects)
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert set(service) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(service["spec"]) == {"predictor"}
    predictor = service["spec"]["predictor"]
    for name, kind in PREDICTOR.items():
        assert isinstance(predictor.get(name, kind()), kind), name
    assert predictor["scaleMetric"] in SCALE_METRICS
    assert 1 <= predictor["minReplicas"] <= predictor["maxReplicas"]
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"
    assert [one["name"] for one in predictor["containers"]] == ["kserve-container"]  # the name that KServe looks for


@pytest.mark.parametrize("release", RELEASES)
def test_every_object_and_kserves_pod_are_valid_by_the_schema_of_kubernetes(
    objects: list[Object], release: str
) -> None:
    assert list(checks.invalid(as_deployment(objects), release)) == []


def test_the_pod_is_as_locked_as_the_servers(objects: list[Object]) -> None:
    found = [*as_deployment(objects), ACCOUNT]
    for check in (checks.unlocked, checks.unresolved, checks.mislabelled):
        assert list(check(found)) == []
    container = found[[one["kind"] for one in found].index("Deployment")]["spec"]["template"]["spec"]["containers"][0]
    container["securityContext"].clear()
    assert any("read-only root" in line for line in checks.unlocked(found))


def test_it_reaches_mlflow_alone_and_only_the_ingress_reaches_it(objects: list[Object]) -> None:
    both = [*load("local"), *as_deployment(objects)]
    before, after = checks.reach(load("local")), checks.reach(both)
    name, mlflow = "segmentation-predictor", "mlflow"
    assert after["ingress"] - before["ingress"] == {(name, mlflow, 5000), ("ingress-nginx", name, 8080)}
    assert after["egress"] - before["egress"] == {(name, mlflow, 5000), (name, "kube-system", 53)}


def test_mlflow_is_asked_under_a_name_that_it_answers_to(objects: list[Object]) -> None:
    settings = find(objects, "ConfigMap", "serving")["data"]
    hosts = find(load("local"), "ConfigMap", "mlflow")["data"]["ALLOWED_HOSTS"].split(",")
    assert settings["MLFLOW_TRACKING_URI"].removeprefix("http://") in hosts
    assert settings["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_the_image_and_its_user_are_the_dockerfiles(objects: list[Object], root: Path) -> None:
    dockerfile = (root / "infra" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    predictor = service_of(objects)["spec"]["predictor"]
    assert f"-t {predictor['containers'][0]['image']} ." in dockerfile
    assert "FROM runtime AS serve\n" in dockerfile
    user = predictor["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in dockerfile


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl on the PATH")
def test_the_rendered_file_is_what_kustomize_prints() -> None:
    rendered = (manifests.RENDERED / f"{manifests.SERVING}.yaml").read_text(encoding="utf-8")
    assert rendered == manifests.rendered(manifests.SERVING)
