"""What runs beside the manifests: passwords, the refusal of placeholders, the servers' own scripts and options."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra.kubernetes import manifests
from tests.support.kubernetes_checks import find, load, of_kind
from tests.support.remote_servers import s3_server

ROOT = manifests.HERE.parents[1]


def test_the_server_is_started_with_options_that_mlflow_has() -> None:
    from mlflow.cli import server

    objects = load("production")
    (container,) = find(objects, "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"]
    options = {option for param in server.params for option in param.opts}
    assert {argument.partition("=")[0] for argument in container["args"]} <= options
    settings = find(objects, "ConfigMap", "mlflow")["data"]
    expanded = {name for argument in container["args"] for name in re.findall(r"\$\((\w+)\)", argument)}
    assert expanded <= settings.keys()
    assert (settings["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"], settings["MLFLOW_DISABLE_TELEMETRY"]) == ("false", "true")


def test_what_is_left_open_is_refused() -> None:
    text = (manifests.RENDERED / "production.yaml").read_text(encoding="utf-8")
    problems = "\n".join(manifests.left_open(text))
    for expected in (
        "image registry.example.org/segops/mlflow@sha256:SET-ME",
        "mlflow.example.org",
        "secret segops-s3: AWS_SECRET_ACCESS_KEY",
    ):
        assert expected in problems
    value = base64.b64encode(b"5eb63bbb").decode()
    closed = text.replace("SET-ME", "0" * 64).replace("example.org", "lab.test")
    for placeholder in (manifests.KEY_PLACEHOLDER, manifests.PLACEHOLDER):
        closed = closed.replace(f"{base64.b64encode(placeholder.encode()).decode()}\n", f"{value}\n")
    assert list(manifests.left_open(closed)) == []


@pytest.mark.parametrize(
    ("image", "problem", "here"),
    [
        ("segops/mlflow:latest", "another one tomorrow", "another one tomorrow"),
        ("registry.lab.test:5000/segops/mlflow", "another one tomorrow", "another one tomorrow"),
        ("segops/mlflow:0.1.0", "a tag may be moved", None),
        ("segops/mlflow:0.1.0@sha256:12ab", "set its digest", "set its digest"),
        (f"segops/mlflow:latest@sha256:{'0' * 64}", None, None),
        (f"segops/mlflow:0.1.0@sha256:{'0' * 64}", None, None),
    ],
)
def test_an_image_without_a_digest_is_refused_in_production_and_one_without_a_release_everywhere(
    image: str, problem: str | None, here: str | None
) -> None:
    pod = yaml.safe_dump({"kind": "Pod", "spec": {"containers": [{"image": image}]}})
    for digests, expected in ((True, problem), (False, here)):
        said = list(manifests.left_open(pod, digests))
        assert len(said) == (expected is not None)
        assert all(f"image {image}: {expected}" in line for line in said)


def test_production_is_asked_together_with_the_champion_behind_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "kustomize", lambda folder: (manifests.RENDERED / f"{folder.name}.yaml").read_text())
    monkeypatch.setattr(manifests, "secrets_file", lambda overlay: manifests.EXAMPLE)
    said = list(manifests.problems("production", alone=False))
    tag = "image segops/serve:0.1.0: a tag may be moved; set a digest under `images:` in kustomization.yaml"
    assert f"overlay serving: {tag}" in said
    assert list(manifests.problems("serving", alone=False)) == [tag]
    assert [line for line in said if not line.startswith("overlay serving")] == list(
        manifests.problems("production", alone=True)
    )


def test_secrets_are_random_readable_by_their_owner_and_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "HERE", tmp_path)
    monkeypatch.setattr(manifests, "secrets_file", lambda overlay: tmp_path / f"{overlay}.env")
    path = manifests.write_secrets("local")
    lines = path.read_text(encoding="utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert values.keys() == find(load("local"), "Secret", "servers")["data"].keys()
    assert len(set(values.values())) == len(values)
    assert len(base64.urlsafe_b64decode(values.pop("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"))) == 32
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in values.values())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(SystemExit, match="rotate"):
        manifests.write_secrets("local")


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_git_never_takes_the_secrets_and_the_rendered_files_hold_placeholders(overlay: str) -> None:
    path = manifests.secrets_file(overlay)
    ignored = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    plain = {"pipeline", "optuna", "postgresql.segops", manifests.PLACEHOLDER, manifests.KEY_PLACEHOLDER}
    values = {
        base64.b64decode(value).decode() for one in of_kind(load(overlay), "Secret") for value in one["data"].values()
    }
    assert values == plain


def test_each_identity_of_s3_may_use_its_bucket_alone(tmp_path: Path) -> None:
    keys = {f"S3_{name}_KEY": name.lower() * 2 for name in ("ADMIN", "MLFLOW", "DATASETS", "PIPELINE", "BACKUP")}
    script = manifests.HERE / "base" / "seaweedfs" / "identities.sh"
    subprocess.run(["sh", script, tmp_path / "s3.json"], env={**os.environ, **keys}, check=True)
    assert stat.S_IMODE((tmp_path / "s3.json").stat().st_mode) == 0o600
    found = json.loads((tmp_path / "s3.json").read_text(encoding="utf-8"))["identities"]
    rights = {one["name"]: one["actions"] for one in found}
    assert rights.pop("admin") == ["Admin"]
    assert rights.pop("backup") == ["Read:mlflow", "List:mlflow", "Read:datasets", "List:datasets"]
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
    """Of names that no other test has: moto keeps a process's buckets over its servers."""
    script = [sys.executable, str(manifests.HERE / "base" / "seaweedfs" / "buckets.py"), "once-a", "once-b"]
    names = {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_DEFAULT_REGION": "us-east-1"}
    with s3_server() as endpoint:
        environment = {**os.environ, **names, "AWS_ENDPOINT_URL": endpoint, "NO_PROXY": "127.0.0.1"}
        said = [subprocess.run(script, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [one.stdout for one in said] == ["once-a: made\nonce-b: made\n", "once-a: there\nonce-b: there\n"]
