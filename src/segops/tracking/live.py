"""Training as MLflow sees it live. The spool file comes first; a thread sends it, so that training never waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from segops.progress import Pace, say
from segops.tracking import runs, step_run, store
from segops.tracking.pictures import Stored, gradcam_pictures, log_pictures, stored_pictures
from segops.tracking.saved_view import keep_view_of
from segops.tracking.spool import Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient

_RETRY_S = 5.0  # between attempts at a server that is away
# The longest wait for the last rows at the end; making a first sqlite store takes several seconds.
_FAREWELL_S = {"server": 20.0, "file": 60.0, "killed": 5.0}


class LiveRun:
    """A context manager that sends a candidate's metrics and panels to its run while it trains.

    Nothing here raises, and `log_epoch` costs one small file write: a thread finds or makes the run, sends what the
    spool holds and tries again later when the server is away. What it couldn't send stays in the spool for the next
    run with the same key, and `register` adds from the candidate's files what the store still lacks.

    Args:
        experiment: MLflow's experiment.
        key: TrainedModel.key; the run with this key is taken up again.
        params: nested params, flattened with dots.
        tags: what else the run should carry.
        epochs: of the training, at most.
        cheap_epochs: CandidateParams.cheap_epochs.
        spool: the file that metrics go to first; beside the checkpoints, so that it outlives a killed process.
        panels: the folder that GradCAM panels come to, which are sent after each epoch; None: there are none.
        series: what the panels' keys have before the image; see `gradcam_pictures`.
    """

    def __init__(
        self,
        *,
        experiment: str,
        candidate: str,
        key: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        epochs: int,
        cheap_epochs: int = 0,
        spool: Path,
        panels: Path | None = None,
        series: str = "",
    ) -> None:
        self._about: dict[str, Any] = {
            "experiment": experiment, "candidate": candidate, "key": key, "params": params,
            "tags": {**tags, **runs.kubeflow_tags()},  # who took it up last ends it
        }  # fmt: skip
        self._epochs, self._pace = epochs, Pace(epochs, cheap=cheap_epochs)
        self._progress, self._told = "", ""
        self._spool = Spool(spool)
        self._panels, self._series = panels, series
        self._wake = threading.Event()
        self._status: str | None = None  # set when the block ends
        self._away = False
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._stored: set[tuple[str, int]] = set()
        self._shown: Stored | None = None  # of the run's pictures; None: not asked yet
        self._drawn = 0  # the last epoch whose panels were sent
        self._monitor: Any = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def __enter__(self) -> Self:
        store.import_mlflow()  # here, so that two threads never import the same modules at once
        self._thread.start()
        self._wake.set()
        return self

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Spool one epoch's metrics: history.csv's columns, or names with a slash. Never raises, never waits."""
        try:
            self._spool.append(epoch, {name: float(value) for name, value in metrics.items() if name != "epoch"})
        except OSError as error:
            say(f"{self._spool.path} can't be written ({error.strerror}); `register` sends this epoch from history.csv")
        self._progress = self._at(epoch)
        self._wake.set()

    def _at(self, epoch: int) -> str:
        """Word how far the training is, and by the clock until when it goes on: a time to come goes stale."""
        left = self._pace.step(epoch)
        until = time.strftime("%H:%M UTC", time.gmtime(time.time() + left.seconds))
        rest = f", {left}, until {until}{' or later' * left.at_least}" if left.seconds else ""
        return f"{self._series}epoch {epoch} of {self._epochs}{rest}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        killed = kind is not None and not issubclass(kind, Exception)
        self._status = "KILLED" if killed else "FAILED" if kind else "FINISHED"
        self._wake.set()
        patience = "killed" if killed else "server" if store.is_remote(store.tracking_uri()) else "file"
        self._thread.join(_FAREWELL_S[patience])
        if self._thread.is_alive():
            self._report("MLflow answers too slowly")

    # ---------------------------------------------------------------------------------------- in the thread

    def _work(self) -> None:
        """Send what is spooled whenever woken, and every few seconds while the server is away, until the block ends."""
        while True:
            self._wake.wait(_RETRY_S if self._away else None)
            self._wake.clear()
            status = self._status
            try:
                self._send(status)
            except Exception as error:  # whatever a tracking server does must not end a training
                self._report(str(error).strip() or type(error).__name__)
                self._away = True
                self._client = None
            if status:
                return

    def _send(self, status: str | None) -> None:
        """Connect if needed and send new metrics and panels; with a status, end the run too."""
        with store.answering():
            if self._client is None:
                self._connect()
            assert self._client is not None
            runs.log_epochs(self._client, self._run_id, self._spool.read(), self._stored)
            self._send_panels()
            self._send_progress(status)
            if status:
                self._stop_monitor()
                self._client.set_terminated(self._run_id, status)
                step_run.link(self._client, self._run_id, *runs.SERIES)

    def _send_panels(self) -> None:
        """Log the GradCAM panels that the run doesn't have yet, an epoch's in one picture."""
        assert self._client is not None
        pictures = list(gradcam_pictures(self._panels, self._series, after=self._drawn)) if self._panels else []
        if not pictures:
            return
        if self._shown is None:
            self._shown = stored_pictures(self._client, self._run_id)
        log_pictures(self._client, self._run_id, pictures, self._shown)
        self._drawn = pictures[-1].step

    def _send_progress(self, status: str | None) -> None:
        """Tag the run with how far it is; at the end with how it ended."""
        assert self._client is not None
        if not self._progress:
            return
        reached = self._progress.partition(",")[0]
        progress = f"{status.lower()} at {reached}" if status else self._progress
        if progress != self._told:
            self._client.set_tag(self._run_id, runs.PROGRESS_TAG, progress)
            self._told = progress

    def _connect(self) -> None:
        """Find or make the run, learn what it holds, and set it running."""
        client = store.client()
        run = runs.open_run(client, **self._about)
        self._run_id = run.info.run_id
        self._stored, self._shown = runs.stored_steps(client, run), None
        step_run.link(client, self._run_id)
        keep_view_of(client, run)
        if run.info.status != "RUNNING":
            client.update_run(self._run_id, status="RUNNING")
        self._client = client
        self._start_monitor(resumed=bool(self._stored))
        if self._away:
            say("MLflow answers again; the spooled metrics are sent")
            self._away = False

    def _start_monitor(self, *, resumed: bool) -> None:
        """Log CPU, memory, disk, network and GPU use as `system/...`, where psutil is installed."""
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self._stop_monitor()
            self._monitor = SystemMetricsMonitor(
                self._run_id, resume_logging=resumed, tracking_uri=store.tracking_uri()
            )
            self._monitor.start()
        except Exception:  # a luxury; MLflow raises its own error where psutil is missing
            self._monitor = None

    def _stop_monitor(self) -> None:
        """Stop logging the machine's use, if that was started."""
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None

    def _report(self, text: str) -> None:
        """Print what went wrong, once until the server answers again."""
        if not self._away:
            say(f"{text}; training continues, its metrics are kept and sent later")
