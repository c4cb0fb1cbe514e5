"""The accounts that SegOps uses at MLflow, and what MLflow's own permissions say of them.

Roles are MLflow's (`/api/3.0/mlflow/roles`): a person's account gets one from the administrator, as these have it.
Whoever has none of them reads. What these permissions can't express, `roles.py` adds.
"""

import os
import re
from collections.abc import Iterable

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME

PIPELINE, PROMOTER = "pipeline", "promoter"
# Name: its role. A password comes from MLFLOW_<NAME>_PASSWORD; without one the account isn't made.
ACCOUNTS = {"pipeline": PIPELINE, "promoter": PROMOTER, "watch": PROMOTER, "serve": None}
# Experiments come one by one to the pipeline, when they are made; those of decisions never do.
GRANTS = {
    PIPELINE: {"registered_model": "MANAGE"},
    PROMOTER: {"registered_model": "MANAGE", "experiment": "MANAGE"},
}


def holds_decisions(experiment: str) -> bool:
    """Whether an experiment of this name is the ledger of decisions, or claims a number in it."""
    return re.search(r"-decisions\s*(/|$)", experiment.casefold()) is not None


def prepare(store: SqlAlchemyStore, experiments: Iterable[Experiment]) -> None:
    """Make roles and accounts that aren't there, renew passwords, and take from everybody what only roles give.

    Args:
        experiments: all there are. Whoever made one owns it; the ledger of decisions shall have no owner.
    """
    roles = {name: _role(store, name) for name in GRANTS}
    for name, role in ACCOUNTS.items():
        if password := os.environ.get(f"MLFLOW_{name.upper()}_PASSWORD"):
            account(store, name, password)
            if role is not None:
                _unless_there(store.assign_role_to_user, store.get_user(name).id, roles[role])
    for experiment in experiments:
        if holds_decisions(experiment.name):
            store.delete_grants_for_resource("experiment", experiment.experiment_id)
        else:
            share(store, experiment.experiment_id)


def account(store: SqlAlchemyStore, name: str, password: str, *, is_admin: bool = False) -> None:
    """Make an account, or give it this password."""
    if not store.has_user(name):
        store.create_user(name, password, is_admin=is_admin)
    elif not store.authenticate_user(name, password):
        store.update_user(name, password=password)


def share(store: SqlAlchemyStore, experiment_id: str) -> None:
    """Let every account of the pipeline write into an experiment and tidy it, whoever made it."""
    role = store.get_role_by_name(DEFAULT_WORKSPACE_NAME, PIPELINE).id
    _unless_there(store.add_role_permission, role, "experiment", experiment_id, "MANAGE")


def _role(store: SqlAlchemyStore, name: str) -> int:
    _unless_there(store.create_role, name, DEFAULT_WORKSPACE_NAME)
    role = store.get_role_by_name(DEFAULT_WORKSPACE_NAME, name).id
    for resource, permission in GRANTS[name].items():
        _unless_there(store.add_role_permission, role, resource, "*", permission)
    return int(role)


def _unless_there(make, *given) -> None:
    try:
        make(*given)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
