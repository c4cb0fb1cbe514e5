"""A real MLflow server with the accounts and roles of infra/kubernetes, on sqlite in place of PostgreSQL."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.kubernetes import manifests
from tests.support.mlflow_server import MlflowServer

SCRIPTS = manifests.HERE / "base" / "mlflow"
PASSWORD = "correct-horse-battery"
NAMES = ("admin", "pipeline", "promoter", "watch", "serve")


def accounts_server(folder: Path) -> MlflowServer:
    """Not started yet. Every account has the same password."""
    ini = (SCRIPTS / "auth.ini").read_text(encoding="utf-8")
    here = ini.replace("postgresql+psycopg:///mlflow_auth", f"sqlite:///{folder / 'auth.db'}")
    assert here != ini
    if "auth_cache_ttl_seconds" not in here:  # else each request hashes a password for half a second
        here += "auth_cache_ttl_seconds = 300\n"
    (folder / "auth.ini").write_text(here, encoding="utf-8")
    prepare(folder)
    return MlflowServer(
        folder,
        "--app-name=basic-auth",
        MLFLOW_AUTH_CONFIG_PATH=str(folder / "auth.ini"),
        MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD,
        MLFLOW_FLASK_SERVER_SECRET_KEY="of-the-tests",
        PYTHONPATH=str(SCRIPTS),
        MLFLOW_BASIC_AUTH_FAIL_CLOSED="true",
    )


def prepare(folder: Path) -> None:
    """What the container `migrate` does before the server starts."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        accounts = importlib.import_module("accounts")
        for name in accounts.ACCOUNTS:
            patch.setenv(f"MLFLOW_{name.upper()}_PASSWORD", PASSWORD)
        store = SqlAlchemyStore()
        store.init_db(f"sqlite:///{folder / 'auth.db'}")
        accounts.prepare(store, [])


@contextmanager
def signed_in(name: str) -> Iterator[None]:
    """What runs inside, and the processes that it starts, use this account."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", name)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        yield
