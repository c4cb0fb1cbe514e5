"""The run that Kubeflow's MLflow plugin keeps for a pipeline's step. It receives the candidate's figures and a link to
the candidate's run, which the steps share and which is at the top level in both engines.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from segops.files import engine
from segops.progress import say
from segops.tracking import store
from segops.tracking.runs import log_scores

if TYPE_CHECKING:
    from mlflow import MlflowClient

PLUGIN = "MLFLOW_RUN_ID"  # what the plugin sets in a step's container
RUN_TAG = "segops.candidate_run"


def link(client: MlflowClient, run_id: str, *series: str) -> None:
    """Link the step's own run, if there is one, to the candidate's run and copy figures. Repeating it adds nothing.

    Args:
        run_id: the id of the candidate's run.
        series: prefixes of the names of its metrics that are copied.

    A plugin's run that is missing is reported and not made: it belongs to Kubeflow.
    """
    own_id = os.environ.get(PLUGIN, "").strip()
    if engine() != "kfp" or own_id in ("", run_id):
        return
    from mlflow.exceptions import MlflowException

    try:
        own = client.get_run(own_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        say(f"{PLUGIN} {own_id} is no run of {store.shown(store.tracking_uri())}; it gets no link")
        return
    run = client.get_run(run_id)
    page = f"#/experiments/{run.info.experiment_id}/runs/{run_id}"
    uri = store.tracking_uri()
    address = f"{store.shown(uri).rstrip('/')}/{page}" if store.is_remote(uri) else page
    tags = {  # not the candidate's key: the run that bears it is the candidate's
        RUN_TAG: run_id,
        "mlflow.note.content": f"A step of candidate [{run.info.run_name}]({address})",
    }
    for name, value in tags.items():
        if own.data.tags.get(name) != value:
            client.set_tag(own_id, name, value)
    log_scores(client, own, {name: value for name, value in run.data.metrics.items() if name.startswith(series)})
