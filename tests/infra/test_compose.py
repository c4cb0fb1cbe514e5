"""infra/compose: what its example promises, and what its services must have; a started one is in docs/results."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.kubernetes import manifests
from tests.support.kubernetes_checks import find, load, workloads

_VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?")


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "infra" / "compose"


@pytest.fixture(scope="module")
def services(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    return found


def _settings(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_every_variable_has_a_default_or_stands_in_the_example(folder: Path) -> None:
    example = _settings(folder / ".env.example")
    for name, operator in _VARIABLE.findall((folder / "compose.yaml").read_text()):
        assert name in example or operator == ":-", name


def test_a_service_is_pinned_watched_and_reached_from_this_machine_alone(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "s3", "mlflow", "watch"}
    for name, service in services.items():
        image = service["image"].partition(":-")[2].rstrip("}")
        assert re.fullmatch(r"[\w./-]+:\d[\w.-]*(@sha256:[0-9a-f]{64})?", image), image
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert all(port.startswith("${BIND:-127.0.0.1}:") for port in service.get("ports", [])), name
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(services["mlflow"]["depends_on"]) == {"postgres", "s3"}


def test_only_s3_listens_beyond_its_container_and_only_mlflow_is_beside_it(services: dict[str, Any]) -> None:
    command = services["s3"]["command"]
    assert command[0] == "server"  # `mini` opens filer, WebDAV, admin and master to all, without a key
    manifest = next(
        container["args"]
        for _, pod in workloads(load("local"))
        for container in pod["spec"]["containers"]
        if container["name"] == "seaweedfs"
    )
    assert set(command) == {word for word in manifest if "-s3.config" not in word}
    assert {"-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0"} <= set(command)
    sharing = {name for name, one in services.items() if set(one["networks"]) & set(services["s3"]["networks"])}
    assert sharing == {"s3", "mlflow"}


def test_artifacts_are_offered_through_mlflow_alone(services: dict[str, Any]) -> None:
    destination = services["mlflow"]["environment"]["MLFLOW_ARTIFACTS_DESTINATION"]
    assert destination.startswith("${ARTIFACTS_SCHEME:-proxied-s3}://")
    assert all(
        find(load(overlay), "ConfigMap", "mlflow")["data"]["ARTIFACTS_DESTINATION"].startswith("proxied-s3://")
        for overlay in manifests.OVERLAYS
    )


def test_no_password_stands_in_a_command(services: dict[str, Any]) -> None:
    for service in services.values():
        assert not re.search("PASSWORD|SECRET", str(service.get("command", "")))


def test_the_first_start_writes_random_passwords_that_only_the_owner_reads(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "infra" / "compose"
    target.mkdir(parents=True)
    for name in ("Makefile", "infra/compose/.env.example"):
        (tmp_path / name).write_text((root / name).read_text())
    texts = []
    for _ in range(2):  # the second time it stays as it is
        subprocess.run(["make", "-C", str(tmp_path), "infra/compose/.env"], check=True, capture_output=True)
        texts.append((target / ".env").read_text())
    assert texts[0] == texts[1]
    written, example = _settings(target / ".env"), _settings(target / ".env.example")
    secrets = [written[name] for name in example if example[name] == "change-me"]
    assert len(set(secrets)) == len(secrets) == 9
    assert all(re.fullmatch("[0-9a-f]{48}", secret) for secret in secrets)
    assert len(base64.urlsafe_b64decode(written["MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"])) == 32
    plain = {name: value for name, value in example.items() if not value.startswith("change-me")}
    assert {name: written[name] for name in plain} == plain
    assert (target / ".env").stat().st_mode & 0o077 == 0
