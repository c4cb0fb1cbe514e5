"""Ends the runs that a Kubeflow run left unfinished, since a killed process can't tell MLflow that it ended."""

from __future__ import annotations

from segops.params.tracking import TrackingParams
from segops.tracking import store
from segops.tracking.runs import KUBEFLOW_TAG


def end_leftovers(tracking: TrackingParams, kubeflow_run: str, *, cancelled: bool) -> list[str]:
    """End the MLflow runs that `kubeflow_run` began or took up and that still count as running.

    A training that is submitted again takes its run up and sets it running again.

    Args:
        cancelled: whether a person ended the Kubeflow run: its runs are KILLED, else FAILED.

    Returns:
        The names of the runs.

    Raises:
        TryAgainError: MLflow stays away.
    """
    client = store.client(tracking)
    with store.answering():
        experiments = client.search_experiments(filter_string=f"name LIKE '{tracking.experiment}%'")
        runs = client.search_runs(
            [experiment.experiment_id for experiment in experiments],
            filter_string=f"tags.{KUBEFLOW_TAG} = '{kubeflow_run}' and attributes.status = 'RUNNING'",
        )
        for run in runs:
            client.set_terminated(run.info.run_id, "KILLED" if cancelled else "FAILED")
    return [str(run.info.run_name) for run in runs]
