"""The rendered manifests: valid by schema, closed by default, and in agreement with the pipeline and with MLflow."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import kubernetes_checks as checks
from tests.kubernetes_checks import Object, of_kind
from tests.remote_servers import s3_server

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "infra" / "kubernetes"
sys.path.insert(0, str(FOLDER))
import manifests  # noqa: E402  - a script beside the manifests, in no package

Check = Callable[[list[Object]], Iterator[str]]
CHECKS: list[Check] = [
    checks.unlocked,
    checks.unresolved,
    checks.deaf_services,
    checks.mislabelled,
    checks.misdirected,
]
# The oldest release that is still in use, and the newest that the validator knows.
RELEASES = ("1.32", "1.37")


@pytest.fixture(params=manifests.OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def load(overlay: str) -> list[Object]:
    return list(yaml.safe_load_all((manifests.RENDERED / f"{overlay}.yaml").read_text(encoding="utf-8")))


@pytest.fixture
def objects(overlay: str) -> list[Object]:
    return load(overlay)


def find(objects: list[Object], kind: str, name: str) -> Any:
    """The object of this name, or of this name and the hash that kustomize adds."""
    exact = re.compile(rf"{name}(-[a-z0-9]{{10}})?")
    return next(one for one in of_kind(objects, kind) if exact.fullmatch(one["metadata"]["name"]))


@pytest.mark.parametrize("release", RELEASES)
def test_every_object_is_valid_by_the_schema_of_kubernetes(objects: list[Object], release: str) -> None:
    import kubernetes_validate

    for one in objects:
        assert kubernetes_validate.validate(one, release, strict=True) == release, checks.name_of(one)


def test_the_schema_is_strict(objects: list[Object]) -> None:
    import kubernetes_validate

    deployment = find(objects, "Deployment", "mlflow")
    deployment["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(deployment, RELEASES[0], strict=True)


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


def _namespaces(objects: list[Object]) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["namespace"] for one, _ in checks.workloads(objects)}


def test_only_those_reach_a_server_who_use_it(objects: list[Object], overlay: str) -> None:
    servers = {name for name, one in _namespaces(objects).items() if one == "segops"}
    allowed = checks.reach(objects)
    extra = {("ingress-nginx", "mlflow", 5000)} if overlay == "production" else set()
    inner = {("mlflow", "postgresql", 5432), ("mlflow", "seaweedfs", 8333), ("buckets", "seaweedfs", 8333)}
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


def kubeflow_section() -> dict[str, Any]:
    """The section of params.yaml that the README gives."""
    (block,) = re.findall(r"```yaml\n(kubeflow:.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    section: dict[str, Any] = yaml.safe_load(block)["kubeflow"]
    return section


def test_what_the_readme_says_to_put_into_params_is_what_is_deployed(objects: list[Object]) -> None:
    from pipelines.compiled import compile_pipeline
    from segops.params import Params, load_params

    given = load_params(ROOT / "params.yaml").model_dump(mode="json", by_alias=True)
    params = Params.model_validate({**given, "kubeflow": {**given["kubeflow"], **kubeflow_section()}})
    platform = list(yaml.safe_load_all(compile_pipeline(params)))[1]
    steps = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    pipeline = find(objects, "ServiceAccount", "segops-pipeline")["metadata"]["namespace"]
    asked = set()
    for step in steps.values():
        for secret in step["secretAsEnv"]:
            there = find(objects, "Secret", secret["secretName"])
            assert there["metadata"]["namespace"] == pipeline
            asked |= {(secret["secretName"], one["secretKey"]) for one in secret["keyToEnv"]}
    assert {name for name, _ in asked} == {"segops-s3", "segops-mlflow"}
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
    for address, suffix in [*((one, "") for one in inside), *((one, ".segops") for one in outside)]:
        host, port = address.removeprefix("http://").split(":")
        service = services[host.removesuffix(suffix)]
        assert host == service["metadata"]["name"] + suffix
        assert int(port) in {one["port"] for one in service["spec"]["ports"]}
    assert outside[0].removeprefix("http://") in settings["ALLOWED_HOSTS"].split(",")
    bucket = settings["ARTIFACTS_DESTINATION"].removeprefix("s3://").partition("/")[0]
    assert bucket in job["command"]


def test_the_server_is_started_with_options_that_mlflow_has() -> None:
    from mlflow.cli import server

    objects = load("production")
    container = _container(objects)
    options = {option for param in server.params for option in param.opts}
    assert {argument.partition("=")[0] for argument in container["args"]} <= options
    settings = find(objects, "ConfigMap", "mlflow")["data"]
    expanded = {name for argument in container["args"] for name in re.findall(r"\$\((\w+)\)", argument)}
    assert expanded <= settings.keys()
    assert (settings["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"], settings["MLFLOW_DISABLE_TELEMETRY"]) == ("false", "true")


def test_overlays_differ_where_they_should() -> None:
    local, production = load("local"), load("production")
    assert not of_kind(local, "ResourceQuota", "Ingress", "PodDisruptionBudget")
    assert find(production, "ResourceQuota", "gpus")["spec"]["hard"] == {"requests.nvidia.com/gpu": "4"}
    assert find(production, "Deployment", "mlflow")["spec"]["replicas"] == 2
    assert all("@sha256:" in image for image in manifests.images(production))
    assert not any("@" in image for image in manifests.images(local))


def test_what_is_left_open_is_refused() -> None:
    text = (manifests.RENDERED / "production.yaml").read_text(encoding="utf-8")
    problems = "\n".join(manifests.left_open(text))
    for expected in ("image postgres@sha256:SET-ME", "mlflow.example.org", "secret segops-s3: AWS_SECRET_ACCESS_KEY"):
        assert expected in problems
    value = base64.b64encode(b"5eb63bbb").decode()
    closed = text.replace("SET-ME", "0" * 64).replace("example.org", "lab.test")
    assert list(manifests.left_open(closed.replace(base64.b64encode(b"replace-me").decode(), value))) == []


def test_secrets_are_random_readable_by_their_owner_and_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "HERE", tmp_path)
    monkeypatch.setattr(manifests, "secrets_file", lambda overlay: tmp_path / f"{overlay}.env")
    path = manifests.write_secrets("local")
    lines = path.read_text(encoding="utf-8").splitlines()
    values = dict(line.split("=") for line in lines if not line.startswith("#"))
    assert values.keys() == find(load("local"), "Secret", "servers")["data"].keys()
    assert len(set(values.values())) == len(values)
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in values.values())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(SystemExit, match="rotate"):
        manifests.write_secrets("local")


def test_git_never_takes_the_secrets_and_the_rendered_files_hold_placeholders(
    objects: list[Object], overlay: str
) -> None:
    path = manifests.secrets_file(overlay)
    ignored = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    plain = {"pipeline", "optuna", "postgresql.segops", manifests.PLACEHOLDER}
    values = {base64.b64decode(value).decode() for one in of_kind(objects, "Secret") for value in one["data"].values()}
    assert values == plain


def test_each_identity_of_s3_may_use_its_bucket_alone(tmp_path: Path) -> None:
    keys = {f"S3_{name}_KEY": name.lower() * 2 for name in ("ADMIN", "MLFLOW", "DATASETS", "PIPELINE")}
    script = FOLDER / "base" / "seaweedfs" / "identities.sh"
    subprocess.run(["sh", script, tmp_path / "s3.json"], env={**os.environ, **keys}, check=True)
    assert stat.S_IMODE((tmp_path / "s3.json").stat().st_mode) == 0o600
    found = json.loads((tmp_path / "s3.json").read_text(encoding="utf-8"))["identities"]
    rights = {one["name"]: one["actions"] for one in found}
    assert rights.pop("admin") == ["Admin"]
    assert rights == {
        name: [f"{action}:{bucket}" for action in actions]
        for name, bucket, actions in (
            ("mlflow", "mlflow", ("Read", "Write", "List", "Tagging")),
            ("datasets", "datasets", ("Read", "Write", "List", "Tagging")),
            ("pipeline", "datasets", ("Read", "List")),
        )
    }
    assert all(one["credentials"] == [{"accessKey": one["name"], "secretKey": one["name"] * 2}] for one in found)


def test_buckets_are_made_once() -> None:
    script = [sys.executable, str(FOLDER / "base" / "seaweedfs" / "buckets.py"), "mlflow", "datasets"]
    names = {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_DEFAULT_REGION": "us-east-1"}
    with s3_server() as endpoint:
        environment = {**os.environ, **names, "AWS_ENDPOINT_URL": endpoint, "NO_PROXY": "127.0.0.1"}
        said = [subprocess.run(script, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [one.stdout for one in said] == ["mlflow: made\ndatasets: made\n", "mlflow: there\ndatasets: there\n"]
