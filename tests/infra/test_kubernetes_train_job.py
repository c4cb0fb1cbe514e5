"""Training on several nodes: Trainer's runtime is valid, its pods are locked, and the step uses all its rights."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainingRuntime

from infra.kubernetes import manifests
from segops.params.kubeflow import TrainOnParams
from tests.support import kubernetes_checks as checks
from tests.support.kubernetes_checks import Object, find, load
from tools.kubernetes_schemas import FOREIGN, RELEASES


@pytest.fixture
def objects() -> list[Object]:
    return load(manifests.TRAIN_JOB)


def pod_of(objects: list[Object]) -> Any:
    runtime = find(objects, "TrainingRuntime", TrainOnParams().runtime)
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]


def test_the_runtime_has_fields_of_trainer_alone_and_is_the_one_of_params(objects: list[Object]) -> None:
    runtime = find(objects, "TrainingRuntime", TrainOnParams().runtime)
    parsed = TrainerV1alpha1TrainingRuntime.from_dict(runtime)
    assert parsed is not None
    assert parsed.to_dict() == runtime
    assert runtime["metadata"]["labels"]["trainer.kubeflow.org/framework"] == "torch"


@pytest.mark.parametrize("release", RELEASES)
def test_kubernetes_own_objects_and_the_nodes_pod_are_valid(objects: list[Object], release: str) -> None:
    own = [document for document in objects if document["kind"] not in FOREIGN]
    template = pod_of(objects)
    spec = {"selector": {"matchLabels": template["metadata"]["labels"]}, "template": template}
    wrapped = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "node"}, "spec": spec}
    assert list(checks.invalid([*own, wrapped], release)) == []


def test_the_nodes_pods_are_locked_and_find_what_they_name(objects: list[Object]) -> None:
    pod = pod_of(objects)["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    production = load(manifests.PRODUCTION)
    for source in container["envFrom"]:
        assert find(production, "Secret", source["secretRef"]["name"])
    claims = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert [find(production, "PersistentVolumeClaim", claim["claimName"])["kind"] for claim in claims]
    assert find(objects, "PriorityClass", pod["priorityClassName"])["value"] < 0
    assert find(production, "ServiceAccount", pod["serviceAccountName"])


def test_the_role_allows_what_the_step_asks_and_no_more(objects: list[Object]) -> None:
    """tests/components/test_train_job.py shows that it suffices: the double answers 403 for the rest."""
    role = find(objects, "Role", "segops-train-job")
    allowed = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert allowed == {
        ("trainingruntimes", "get"),
        ("trainjobs", "create"),
        ("trainjobs", "get"),
        ("trainjobs", "delete"),
        ("pods", "list"),
        ("events", "list"),
        ("pods/log", "get"),
    }


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl on the PATH")
def test_the_rendered_file_is_what_kustomize_prints() -> None:
    rendered = (manifests.RENDERED / f"{manifests.TRAIN_JOB}.yaml").read_text(encoding="utf-8")
    assert rendered == manifests.rendered(manifests.TRAIN_JOB)
