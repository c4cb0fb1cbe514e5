"""Bring MLflow's two databases to this version's tables, and its accounts to the secret's passwords.

Runs before each server starts. A lock in PostgreSQL lets several replicas start at once: one migrates, the
others wait and find nothing to do. Where and as whom it connects, libpq reads from the PG* variables.
"""

import os
import time

import click
import psycopg
from mlflow.db import upgrade
from mlflow.server.auth.config import read_auth_config
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

TABLES = "postgresql+psycopg://"
LOCK = 5_303_717  # any number that nothing else in this database takes
WAIT_S = 300


def main() -> None:
    """Migrate under the lock."""
    with connect(time.monotonic() + WAIT_S) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        upgrade.main([TABLES], standalone_mode=False)
        accounts()


def connect(end_s: float) -> psycopg.Connection:
    """A connection, as soon as PostgreSQL answers. A wrong password ends with libpq's own line after the wait."""
    while True:
        try:
            return psycopg.connect(autocommit=True)
        except psycopg.OperationalError as error:
            if time.monotonic() > end_s:
                raise click.ClickException(str(error)) from None
            time.sleep(3)


def accounts() -> None:
    """Make the accounts that aren't there; give the others the secret's password."""
    settings, store = read_auth_config(), SqlAlchemyStore()
    store.init_db(settings.database_uri)
    wanted = {
        settings.admin_username: (settings.admin_password, True),
        "pipeline": (os.environ["MLFLOW_PIPELINE_PASSWORD"], False),
    }
    for name, (password, administrator) in wanted.items():
        if not store.has_user(name):
            store.create_user(name, password, is_admin=administrator)
        elif not store.authenticate_user(name, password):
            store.update_user(name, password=password)


if __name__ == "__main__":
    main()
