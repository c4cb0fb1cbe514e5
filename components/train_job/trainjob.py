"""Makes a TrainJob by Kubeflow's SDK, follows it, and leaves none behind.

Its name follows from what it is asked, so that a request whose answer was lost, or a step that was started again, finds
the job that is there. What a pod's container may use beside its resources (secrets, the volume, its user) stands in the
TrainingRuntime: Trainer's webhook takes no environment from a job.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from segops.errors import TryAgainError, UserError
from segops.params.kubeflow import ProfileParams, TrainOnParams
from segops.progress import say

if TYPE_CHECKING:
    from kubeflow.trainer import TrainerClient
    from kubeflow.trainer.types.types import TrainJob

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_AWAY_S = 600.0  # the API may be away for so long before the step gives up
_REASON, _LAST_LINES = "segops: ", 3
_GONE_LOOKS = 10
_RIGHTS = "the step's service account needs the rights of role segops-train-job (infra/kubernetes/overlays/train-job)"

T = TypeVar("T")


class JobRunner:
    """Runs TrainJobs in a namespace.

    Args:
        namespace: None: the pod's own, or the kubeconfig's.
        poll_s: seconds between two looks at a job.
    """

    def __init__(self, namespace: str | None = None, *, poll_s: float = 10.0, away_s: float = _AWAY_S) -> None:
        from kubeflow.common.types import KubernetesBackendConfig
        from kubeflow.trainer import TrainerClient

        logging.getLogger("kubeflow").setLevel(logging.ERROR)  # warns of Trainer's version, which we may not read
        config = KubernetesBackendConfig(namespace=namespace, config_file=os.environ.get("KUBECONFIG"))
        self._client: TrainerClient = TrainerClient(backend_config=config)
        self._poll_s, self._away_s = poll_s, away_s

    def run(self, name: str, on: TrainOnParams, profile: ProfileParams, *, image: str, folder: str, hours: int) -> None:
        """Run torchrun's processes over a request's folder to their end, relaying the first node's log.

        Raises: UserError with the line of the pod that failed; TryAgainError where the API stays away.
        """
        with self._removed_after(name):
            self._make(name, on, profile, image=image, folder=folder, hours=hours)
            relay = _Relay()
            while True:
                job = self._asked(f"look at {name}", lambda: self._client.get_job(name))
                relay.show(self._log(name, "node-0"), _pod(job, "node-0"))
                if job.status == "Complete":
                    return
                if job.status == "Failed":
                    raise UserError(f"TrainJob {name}: {self._reason(job)}")
                time.sleep(self._poll_s)

    def _make(
        self, name: str, on: TrainOnParams, profile: ProfileParams, *, image: str, folder: str, hours: int
    ) -> None:
        """Create the job, unless it is there."""
        from kubeflow.trainer import CustomTrainerContainer
        from kubeflow.trainer.options import ActiveDeadlineSeconds, Labels, Name, TrainerArgs, TrainerCommand

        runtime = self._asked(f"find the TrainingRuntime {on.runtime}", lambda: self._client.get_runtime(on.runtime))
        labels = {"app.kubernetes.io/part-of": "segops"} | ({QUEUE_LABEL: on.queue} if on.queue else {})
        processes = profile.accelerators or 1
        resources = {"cpu": profile.cpu, "memory": profile.memory}
        if profile.accelerator is not None:
            resources[profile.accelerator] = str(profile.accelerators)
        trainer = CustomTrainerContainer(image=image, num_nodes=on.nodes, resources_per_node=resources)
        options: list[Any] = [
            Name(name),
            Labels(labels),
            ActiveDeadlineSeconds(hours * 3600),
            TrainerCommand(["torchrun"]),
            TrainerArgs([f"--nproc-per-node={processes}", "-m", "components.train_job.worker", folder]),
            *_placed(profile),
        ]

        def create() -> None:
            try:
                self._client.train(runtime=runtime, trainer=trainer, options=options)
            except RuntimeError as error:
                if _status(error) != 409:
                    raise

        self._asked(f"create {name}", create)
        say(f"TrainJob {name}: {on.nodes} nodes of {processes} processes")

    @contextmanager
    def _removed_after(self, name: str) -> Iterator[None]:
        """Delete the job however the block ends: by SIGTERM too, as when the run is terminated."""
        try:
            yield
        finally:
            try:
                self._client.delete_job(name)
            except (RuntimeError, TimeoutError) as error:
                if _status(error) != 404:
                    say(f"TrainJob {name} may still be there ({_words(error)}): kubectl delete trainjob {name}")
            self._await_end(name)

    def _await_end(self, name: str) -> None:
        """Wait a little until a deleted job is gone, so that its name is free for the next try."""
        for _ in range(_GONE_LOOKS):
            try:
                self._client.get_job(name)
            except (RuntimeError, TimeoutError):
                return
            time.sleep(min(self._poll_s, 2.0))

    def _log(self, name: str, step: str) -> list[str]:
        """Return the lines of a node's log so far; none where it has none yet, or can't be had now."""
        try:
            return list(self._client.get_job_logs(name, step=step))
        except (RuntimeError, TimeoutError):
            return []

    def _reason(self, job: TrainJob) -> str:
        """Word why a job failed: the failing pods' own line, else their last ones, else the last event."""
        logs = {step.name: self._log(job.name, step.name) for step in job.steps if step.status == "Failed"}
        for node, lines in logs.items():
            for line in reversed(lines):
                if line.startswith(_REASON):
                    return f"{node}: {line.removeprefix(_REASON)}"
        for node, lines in logs.items():
            if lines:
                return f"{node} ended with: {' / '.join(lines[-_LAST_LINES:])}"
        try:
            events = self._client.get_job_events(job.name)
        except (RuntimeError, TimeoutError):
            events = []
        return f"no pod says why; the last event: {events[-1].message}" if events else "no pod and no event says why"

    def _asked(self, what: str, call: Callable[[], T]) -> T:
        """Call the API, again while it is away; what it refuses is a line."""
        began = time.monotonic()
        while True:
            try:
                return call()
            except (RuntimeError, TimeoutError) as error:
                status = _status(error)
                if status in (401, 403):
                    raise UserError(f"Kubernetes refuses to {what} ({_words(error)}); {_RIGHTS}") from None
                if status is not None and 400 <= status < 500 and status != 429:
                    raise UserError(f"Kubernetes can't {what}: {_words(error)}") from None
                if time.monotonic() - began > self._away_s:
                    raise TryAgainError(f"Kubernetes doesn't answer ({_words(error)}), asked to {what}") from None
                time.sleep(self._poll_s)


def _placed(profile: ProfileParams) -> list[Any]:
    """Return the SDK's options that put pods on a profile's nodes; none where any node will do."""
    if not (profile.node_selector or profile.tolerations):
        return []
    from kubeflow.trainer import options as sdk

    pod = sdk.PodSpecPatch(node_selector=profile.node_selector or None, tolerations=profile.tolerations or None)
    job = sdk.JobTemplatePatch(spec=sdk.JobSpecPatch(template=sdk.PodTemplatePatch(spec=pod)))
    jobs = sdk.JobSetSpecPatch(replicated_jobs=[sdk.ReplicatedJobPatch(name="node", template=job)])
    spec = sdk.TrainingRuntimeSpecPatch(template=sdk.JobSetTemplatePatch(spec=jobs))
    return [sdk.RuntimePatch(training_runtime_spec=spec)]


class _Relay:
    """Prints a pod's log line by line as it grows; another pod's begins anew."""

    def __init__(self) -> None:
        self._pod: str | None = None
        self._shown = 0

    def show(self, lines: list[str], pod: str | None) -> None:
        """Print the lines that weren't printed yet."""
        if pod != self._pod:
            self._pod, self._shown = pod, 0
        for line in lines[self._shown :]:
            say(line)
        self._shown = max(self._shown, len(lines))


def _pod(job: TrainJob, node: str) -> str | None:
    return next((step.pod_name for step in job.steps if step.name == node), None)


def _cause(error: BaseException) -> Any:
    """Return what the SDK's error was raised from."""
    return error.__cause__ or error


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of what Kubernetes answered; None where it didn't."""
    status = getattr(_cause(error), "status", None)
    return status if isinstance(status, int) and status else None


def _words(error: BaseException) -> str:
    """Return what Kubernetes says of an error, in a line."""
    cause = _cause(error)
    try:
        return str(json.loads(cause.body)["message"])
    except (AttributeError, TypeError, ValueError, KeyError):
        return " ".join(str(cause).split())[:300]
