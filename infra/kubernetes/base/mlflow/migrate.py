"""Bring MLflow's two databases to this version's tables, its accounts and its webhook to the secret's values.

Runs before each server starts. A lock in PostgreSQL lets several replicas start at once: one migrates, the
others wait and find nothing to do. Where and as whom it connects, libpq reads from the PG* variables.
"""

import os
import time

import accounts
import click
import psycopg
from mlflow.db import upgrade
from mlflow.entities import ViewType
from mlflow.entities.webhook import WebhookEvent
from mlflow.server.auth.config import read_auth_config
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

TABLES = "postgresql+psycopg://"
AUTH_DATABASE = "mlflow_auth"
LOCK = 5_303_717  # any number that nothing else in this database takes
WAIT_S = 300
# What `segops watch` wants to know: what may change which weights an alias names.
EVENTS = (
    ("model_version_alias", "created"),
    ("model_version_alias", "deleted"),
    ("model_version_tag", "set"),
    ("model_version_tag", "deleted"),
)


def main() -> None:
    """Migrate under the lock."""
    with connect(time.monotonic() + WAIT_S) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (AUTH_DATABASE,)).fetchone():
            connection.execute(f"CREATE DATABASE {AUTH_DATABASE} ENCODING 'UTF8' TEMPLATE template0")
        upgrade.main([TABLES], standalone_mode=False)
        if os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):  # else who may do what is Kubernetes' to say
            people()
        webhook()


def connect(end_s: float) -> psycopg.Connection:
    """A connection, as soon as PostgreSQL answers. A wrong password ends with libpq's own line after the wait."""
    while True:
        try:
            return psycopg.connect(autocommit=True)
        except psycopg.OperationalError as error:
            if time.monotonic() > end_s:
                raise click.ClickException(str(error)) from None
            time.sleep(3)


def people() -> None:
    """The administrator, and who else has an account."""
    settings, store = read_auth_config(), SqlAlchemyStore()
    store.init_db(settings.database_uri)
    accounts.account(store, settings.admin_username, settings.admin_password, is_admin=True)
    tracking = Tracking(TABLES, "mlflow-artifacts:/")  # as the server says of the default experiment, if it is new
    experiments, token = [], None
    while token != "":
        page = tracking.search_experiments(view_type=ViewType.ALL, max_results=1000, page_token=token)
        experiments, token = [*experiments, *page], page.token or ""
    accounts.prepare(store, experiments)


def webhook() -> None:
    """Where the watchdog listens, it is told of every move; with the secret of today."""
    url, secret = os.environ.get("SEGOPS_WATCH_URL"), os.environ.get("SEGOPS_WEBHOOK_SECRET")
    if not url or not secret:
        return
    registry, events = Registry(TABLES), [WebhookEvent(*event) for event in EVENTS]
    ours = [one for one in registry.list_webhooks(max_results=1000) if one.name == "segops-watch"]
    for one in ours:
        registry.update_webhook(one.webhook_id, url=url, events=events, secret=secret)
    if not ours:
        registry.create_webhook("segops-watch", url, events, secret=secret)


if __name__ == "__main__":
    main()
