"""Refuses to send MLflow's password or token over plain http to another machine."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from segops.errors import UserError
from segops.secrets import channel_fault

_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def check(uri: str) -> None:
    """Raise UserError where a secret of the environment or of the URI would be readable on its way to the server."""
    told = next((name for name in _VARIABLES if os.environ.get(name)), "its login" if urlsplit(uri).username else None)
    if os.environ.get("MLFLOW_TRACKING_AUTH", "").startswith("kubernetes"):
        told = "the service account's token"
    if (fault := channel_fault(uri, told)) is not None:
        raise UserError(f"MLFLOW_TRACKING_URI {fault}")
