"""A search as MLflow shows it: one run, its trials as child runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segops.contracts.trials import TrialRecord
from segops.files import engine
from segops.progress import say
from segops.tracking import runs, step_run, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STUDY_TAG, TRIAL_TAG = "segops.study", "segops.trial"
_PARENT_TAG = "mlflow.parentRunId"


class SearchRun:
    """Logs a search to the run of its study, found again by its tag; each ended trial becomes a child run once.

    No method raises for a server that is away: the search continues, and what is missing is sent at its end, or when
    the same command runs again.

    Args:
        params: of the search, nested.
    """

    def __init__(self, *, experiment: str, candidate: str, study: str, params: Mapping[str, Any]) -> None:
        self._experiment, self._candidate, self._study, self._params = experiment, candidate, study, params
        self._sent: set[int] = set()
        self._away = False

    def show(self, trials: Sequence[TrialRecord]) -> None:
        """Log the trials that ended since the last call."""
        if not self._away and any(trial.ended and trial.number not in self._sent for trial in trials):
            self._try(trials, None)

    def finish(self, trials: Sequence[TrialRecord], figures: Mapping[str, float | None]) -> None:
        """Log the trials that are still missing, and the search's result, and end its run."""
        self._try(trials, figures)

    def _try(self, trials: Sequence[TrialRecord], figures: Mapping[str, float | None] | None) -> None:
        """Send trials and figures; on an error print one line and leave the rest to `finish` or the next command."""
        try:
            with store.answering(), store.alone(f"search {self._study}"):
                self._send(store.client(), trials, figures)
        except Exception as error:  # whatever a tracking server does must not end a search
            if not self._away:
                text = str(error).strip() or type(error).__name__
                say(f"{text}; the search continues, its trials are sent at its end or next time")
            self._away = True

    def _send(
        self, client: MlflowClient, trials: Sequence[TrialRecord], figures: Mapping[str, float | None] | None
    ) -> None:
        """Log each ended trial that has no finished child run; with figures, log these and end the search's run."""
        parent = self._parent(client)
        children = self._children(client, parent)
        for trial in trials:
            if trial.ended and trial.number not in self._sent:
                child = children.get(trial.number)
                if child is None or child.info.status == "RUNNING":
                    self._log(client, parent, trial, child)
                self._sent.add(trial.number)
        if figures is not None:
            runs.log_scores(client, client.get_run(parent.info.run_id), figures)
            client.set_terminated(parent.info.run_id, "FINISHED")
            step_run.link(client, parent.info.run_id, "search/")

    def _parent(self, client: MlflowClient) -> Run:
        """Find or make the search's run, and log the params that it lacks."""
        from mlflow.entities import Param

        experiment_id = store.experiment_id(client, self._experiment)
        tags = {STUDY_TAG: self._study, "role": "search", "candidate": self._candidate, "engine": engine()}
        own = f"tags.`{STUDY_TAG}` = '{self._study}' and tags.role = 'search'"
        run = runs.find_or_create_run(client, experiment_id, f"search {self._study}", tags | runs.origin(), own)
        params = runs.flatten(self._params).items()
        missing = [Param(name, value) for name, value in params if name not in run.data.params]
        client.log_batch(run.info.run_id, params=missing)
        return run

    def _children(self, client: MlflowClient, parent: Run) -> dict[int, Run]:
        """Return the child runs by trial number."""
        found: dict[int, Run] = {}
        token = None
        while True:
            page = client.search_runs(
                [parent.info.experiment_id],
                filter_string=f"tags.`{_PARENT_TAG}` = '{parent.info.run_id}'",
                page_token=token,
            )
            found |= {int(run.data.tags[TRIAL_TAG]): run for run in page}
            if not (token := page.token):
                return found

    def _log(self, client: MlflowClient, parent: Run, trial: TrialRecord, child: Run | None) -> None:
        """Log params, curve and state of one trial, all with one timestamp, so that a row sent twice stays one row."""
        from mlflow.entities import Metric, Param, RunTag

        if child is None:
            tags = {_PARENT_TAG: parent.info.run_id, TRIAL_TAG: str(trial.number), "candidate": self._candidate}
            tags |= {STUDY_TAG: self._study, "role": "trial"}
            own = f"tags.`{_PARENT_TAG}` = '{parent.info.run_id}' and tags.`{TRIAL_TAG}` = '{trial.number}'"
            name = f"{self._study} trial {trial.number}"
            child = runs.find_or_create_run(client, parent.info.experiment_id, name, tags, own)
        at_ms = child.info.start_time
        scores = {"search/dice": trial.dice, "search/milliseconds": trial.milliseconds}
        client.log_batch(
            child.info.run_id,
            params=[
                Param(path, text) for path, text in runs.flatten(trial.values).items() if path not in child.data.params
            ],
            metrics=[
                *(Metric("val/dice", dice, at_ms, epoch) for epoch, dice in enumerate(trial.curve, start=1)),
                *(Metric(name, score, at_ms, 0) for name, score in scores.items() if score is not None),
            ],
            tags=[RunTag("state", trial.state), *([RunTag("reason", trial.reason)] if trial.reason else [])],
        )
        client.set_terminated(child.info.run_id, "FAILED" if trial.state == "failed" else "FINISHED")
