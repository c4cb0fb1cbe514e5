"""MLflow for many teams: the overlays are valid and closed, and each right is one that somebody needs."""

from __future__ import annotations

import shutil

import pytest

from infra.kubernetes import manifests
from tests.support import kubernetes_checks as checks
from tests.support.kubernetes_checks import find, load
from tools.kubernetes_schemas import RELEASES

OVERLAYS = (manifests.WORKSPACES, manifests.TEAM)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid_by_the_schema_of_kubernetes(overlay: str) -> None:
    for release in RELEASES:
        assert list(checks.invalid(load(overlay), release)) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl on the PATH")
def test_the_rendered_file_is_what_kustomize_prints(overlay: str) -> None:
    assert (manifests.RENDERED / f"{overlay}.yaml").read_text(encoding="utf-8") == manifests.rendered(overlay)


def test_only_mlflow_has_a_token_and_nothing_else_is_opened() -> None:
    objects = load(manifests.WORKSPACES)
    assert list(checks.unlocked(objects)) == [f"Deployment/mlflow, {name}: no token" for name in ("migrate", "mlflow")]
    for check in (checks.unresolved, checks.deaf_services, checks.mislabelled, checks.misdirected):
        assert list(check(objects)) == []
    (rule,) = find(objects, "NetworkPolicy", "mlflow")["spec"]["ingress"][0]["from"]
    assert rule["namespaceSelector"] == {"matchLabels": {"mlflow-enabled": "true"}}


def test_mlflow_may_list_namespaces_and_read_nothing_in_them() -> None:
    rules = find(load(manifests.WORKSPACES), "ClusterRole", "segops-mlflow")["rules"]
    assert {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]} == {
        ("namespaces", "list"),
        ("namespaces", "watch"),
        ("mlflowconfigs", "list"),
        ("mlflowconfigs", "watch"),
    }


def test_what_a_team_may_is_on_mlflows_kinds_alone_and_its_step_binds_to_the_pipelines_account() -> None:
    objects = load(manifests.TEAM)
    assert (
        list(checks.unresolved([*objects, find(load(manifests.PRODUCTION), "ServiceAccount", "segops-pipeline")])) == []
    )
    roles = [role for role in checks.of_kind(objects, "Role") for rule in role["rules"]]
    assert {group for role in roles for rule in role["rules"] for group in rule["apiGroups"]} == {"mlflow.kubeflow.org"}
    assert not any("delete" in rule["verbs"] for rule in find(objects, "Role", "mlflow-steps")["rules"])
    assert all(set(rule["verbs"]) == {"get", "list"} for rule in find(objects, "Role", "mlflow-reader")["rules"])
