"""The comparison in MLflow: its decision and its page in the run of every candidate that it compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from segops.files import sha256_lines
from segops.progress import say
from segops.tracking.runs import find_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACT = "comparison/index.html"
_TAG = "segops.comparison"


def said(client: MlflowClient, run_id: str) -> str:
    """Return what the last comparison of a run said to do; nothing where it was in none, or was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run_id).data.tags.get("decision", ""))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return ""


def log_comparison(client: MlflowClient, experiment: str, keys: Mapping[str, str], page: str, decision: str) -> None:
    """Log the page and the tag `decision` to each candidate's run, unless the run holds exactly these.

    A later comparison replaces them.

    Args:
        keys: of the candidates' runs, by candidate. A run that the store lacks is reported and skipped.
    """
    digest = sha256_lines([page])
    for candidate, key in keys.items():
        run = find_run(client, experiment=experiment, candidate=candidate, key=key)
        if run is None:
            say(f"MLflow has no run of '{candidate}' for the comparison page; `segops register --missing` makes it")
            continue
        run_id = run.info.run_id
        held = run.data.tags.get(_TAG) == digest and client.list_artifacts(run_id, "comparison")
        if not held:
            client.log_text(run_id, page, ARTIFACT)
            client.set_tag(run_id, "decision", decision)
            client.set_tag(run_id, _TAG, digest)
