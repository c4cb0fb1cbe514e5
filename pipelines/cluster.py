"""A Kubeflow cluster's run API through kfp's client, with its failures as one line each."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, TypeVar

import yaml

from segops.errors import UserError
from segops.files import sha256_lines
from segops.progress import say

T = TypeVar("T")

_DONE = {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}
_PASSING = {429, 500, 502, 503, 504}
_TRIES = 5
_REFUSALS = {
    400: "it refuses the request ({reason}); see that the cluster runs Kubeflow Pipelines 2.17 or newer",
    401: "it wants a login; set KFP_TOKEN or pass --token-file",
    403: "this account may not do that{where}; ask for the role that runs pipelines there",
    404: "it doesn't know that ({reason}); correct --host and --namespace",
    409: "it has that already ({reason}); submit under another name",
}


@dataclass(frozen=True)
class Login:
    """How to reach a cluster.

    Attributes:
        host: URL of the pipelines' API.
        namespace: of experiments and runs in a multi-user deployment; None in a single-user one.
        token: bearer token, or None.
        token_file: file of a service account's token, read anew for each request, or None.
    """

    host: str
    namespace: str | None = None
    token: str | None = None
    token_file: Path | None = None


class Cluster:
    """Uploads, starts and follows runs. What a server can't do right now is asked again, 5 times."""

    def __init__(self, login: Login, *, pause_s: float = 2.0) -> None:
        from kfp import client

        self.login, self.pause_s = login, pause_s
        credentials = None
        if login.token_file is not None:
            credentials = client.ServiceAccountTokenVolumeCredentials(path=str(login.token_file))

        class Client(client.Client):
            def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:  # noqa: ARG002
                """Not asked: kfp's own asks for 25 s and hides why there is no answer."""
                return SimpleNamespace(multi_user=False)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self._client = Client(host=login.host, existing_token=login.token, credentials=credentials)

    def upload(self, compiled: str) -> tuple[str, str]:
        """The ids of the pipeline and of the version that holds `compiled`, made where they aren't there yet."""
        name = str(next(yaml.safe_load_all(compiled))["pipelineInfo"]["name"])
        version = f"{name}-{sha256_lines([compiled])[:12]}"
        with TemporaryDirectory() as folder:
            package = Path(folder) / "pipeline.yaml"
            package.write_text(compiled, encoding="utf-8")
            pipeline = self._ask(lambda: self._client.get_pipeline_id(name))
            if pipeline is None:
                made = self._ask(lambda: self._client.upload_pipeline(str(package), pipeline_name=name))
                pipeline = str(made.pipeline_id)
            for one in self._versions(pipeline):
                if one.display_name == version:
                    return pipeline, str(one.pipeline_version_id)
            new = self._ask(
                lambda: self._client.upload_pipeline_version(
                    str(package), pipeline_version_name=version, pipeline_id=pipeline
                )
            )
        return pipeline, str(new.pipeline_version_id)

    def _versions(self, pipeline: str) -> Iterator[Any]:
        """A pipeline's versions, page by page."""
        token: str | None = ""
        while token is not None:
            list_page = partial(self._client.list_pipeline_versions, pipeline, page_token=token, page_size=100)
            page = self._ask(list_page)
            yield from page.pipeline_versions or []
            token = page.next_page_token or None

    def start(
        self, compiled: str, arguments: dict[str, Any], *, experiment: str, name: str, account: str | None = None
    ) -> str:
        """Start a run of the compiled pipeline; returns its id. Starting isn't repeated: it could start two."""
        experiment_id, version = self._prepared(compiled, experiment)
        with self._explained():
            run = self._client.run_pipeline(experiment_id, name, params=arguments, service_account=account, **version)
        return str(run.run_id)

    def schedule(
        self,
        compiled: str,
        arguments: dict[str, Any],
        *,
        experiment: str,
        name: str,
        cron: str,
        account: str | None = None,
    ) -> str:
        """Make a recurring run; returns its id."""
        experiment_id, version = self._prepared(compiled, experiment)
        with self._explained():
            recurring = self._client.create_recurring_run(
                experiment_id,
                name,
                cron_expression=cron,
                params=arguments,
                max_concurrency=1,
                no_catchup=True,
                service_account=account,
                **version,
            )
        return str(recurring.recurring_run_id)

    def _prepared(self, compiled: str, experiment: str) -> tuple[str, dict[str, str]]:
        """The experiment's id, and the pipeline's version as kfp's client takes it."""
        pipeline, version = self.upload(compiled)
        made = self._ask(lambda: self._client.create_experiment(experiment, namespace=self.login.namespace))
        return str(made.experiment_id), {"pipeline_id": pipeline, "version_id": version}

    def link(self, run_id: str) -> str:
        """The run's page."""
        return f"{self.login.host.rstrip('/')}/#/runs/details/{run_id}"

    def follow(self, run_id: str, *, poll_s: float = 10.0, patience_s: float = 300.0) -> None:
        """Wait for a run's end; say once of each step that waits `patience_s` to start.

        Raises: UserError naming the steps that failed, or that the run was cancelled.
        """
        state, waiting = "", _Waiting(patience_s)
        while state not in _DONE:
            run = self._ask(lambda: self._client.get_run(run_id))
            if run.state != state:
                state = str(run.state)
                say(f"run {run_id}: {state}")
            for step in waiting.too_long(_tasks(run)):
                say(
                    f"step {step} still waits to start; `kubectl describe pods --selector pipeline/runid={run_id}` "
                    "says why: an image or a secret that isn't there, a quota, no free node"
                )
            if state not in _DONE:
                time.sleep(poll_s)
        if state in ("FAILED", "CANCELED"):
            failed = sorted({one.display_name for one in _tasks(run) if one.state == "FAILED"})
            steps = f": {', '.join(failed)}" if failed else ""
            raise UserError(f"run {run_id} ended as {state}{steps}; see {self.link(run_id)}")

    def _ask(self, question: Callable[[], T]) -> T:
        for pause in range(_TRIES):
            try:
                with self._explained(last=pause == _TRIES - 1):
                    return question()
            except _Passing:
                time.sleep(self.pause_s * 2**pause)
        raise AssertionError("the last try answers or raises")

    @contextmanager
    def _explained(self, *, last: bool = True) -> Iterator[None]:
        """Turn what kfp and urllib3 raise into a UserError, or _Passing where asking again may help."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        host = self.login.host
        try:
            with redirect_stdout(io.StringIO()):  # kfp prints links of everything that it touches
                yield
        except ApiException as error:
            if error.status in _PASSING and not last:
                raise _Passing from None
            where = f" in namespace {self.login.namespace}" if self.login.namespace else ""
            known = _REFUSALS.get(error.status, "the server answered {status} {reason}; see its log")
            reason = " ".join(str(error.reason).split())
            said = known.format(reason=reason, status=error.status, where=where)
            raise UserError(f"{host}: {said}") from None
        except HTTPError:
            if not last:
                raise _Passing from None
            raise UserError(f"{host}: no answer; correct --host, or see that the API is reachable from here") from None


class _Waiting:
    """Steps whose pods don't start. Kubeflow tells no reason: such a run goes on until its deadline."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since: dict[str, float] = {}
        self._said: set[str] = set()

    def too_long(self, tasks: list[Any]) -> list[str]:
        """Names of the steps that have waited too long, each once."""
        pending = {one.display_name for one in tasks if one.state == "PENDING"}
        now = time.monotonic()
        self._since = {name: self._since.get(name, now) for name in pending}
        late = {name for name, since in self._since.items() if now - since >= self._patience_s} - self._said
        self._said |= late
        return sorted(late)


class _Passing(Exception):  # noqa: N818 - a state, not an error
    """The server can't answer right now."""


def _tasks(run: Any) -> list[Any]:
    return list(run.run_details.task_details or []) if run.run_details else []
