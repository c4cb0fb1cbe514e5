"""Asks a Kubeflow cluster to hold pipelines, start runs now or at set times, list and stop them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from pipelines.api import Api, Login
from segops.errors import UserError
from segops.files import sha256_lines

_PAGE = 100
_NEWEST_FIRST = "created_at desc"


class Cluster:
    """Uploads, starts, lists and stops runs."""

    def __init__(self, login: Login, *, pause_s: float = 2.0) -> None:
        self.login, self.api = login, Api(login, pause_s=pause_s)
        self._client = self.api.client

    def upload(self, compiled: str) -> tuple[str, str]:
        """Upload what isn't there yet; return the ids of the pipeline and of the version that holds `compiled`."""
        name = str(next(yaml.safe_load_all(compiled))["pipelineInfo"]["name"])
        version = f"{name}-{sha256_lines([compiled])[:12]}"
        with TemporaryDirectory() as folder:
            package = Path(folder) / "pipeline.yaml"
            package.write_text(compiled, encoding="utf-8")
            pipeline = self.api.ask(lambda: self._client.get_pipeline_id(name))
            if pipeline is None:
                uploaded = self.api.ask(lambda: self._client.upload_pipeline(str(package), pipeline_name=name))
                pipeline = str(uploaded.pipeline_id)
            for known in self._pages(self._client.list_pipeline_versions, "pipeline_versions", pipeline_id=pipeline):
                if known.display_name == version:
                    return pipeline, str(known.pipeline_version_id)
            new = self.api.ask(
                lambda: self._client.upload_pipeline_version(
                    str(package), pipeline_version_name=version, pipeline_id=pipeline
                )
            )
        return pipeline, str(new.pipeline_version_id)

    def start(
        self, compiled: str, arguments: dict[str, Any], *, experiment: str, name: str, account: str | None = None
    ) -> str:
        """Start a run of the compiled pipeline; return its id. Starting isn't repeated: it could start two."""
        experiment_id, version = self._prepared(compiled, experiment)
        run = self.api.once(
            lambda: self._client.run_pipeline(experiment_id, name, params=arguments, service_account=account, **version)
        )
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
        """Make a recurring run; return its id."""
        experiment_id, version = self._prepared(compiled, experiment)
        recurring = self.api.once(
            lambda: self._client.create_recurring_run(
                experiment_id,
                name,
                cron_expression=cron,
                params=arguments,
                max_concurrency=1,
                no_catchup=True,
                service_account=account,
                **version,
            )
        )
        return str(recurring.recurring_run_id)

    def run(self, run_id: str, *, patience_s: float = 0.0) -> Any:
        """Return a run as kfp's client gives it; a lost connection is waited for."""
        return self.api.ask_for(lambda: self._client.get_run(run_id), patience_s)

    def specification(self, run: Any) -> dict[str, Any] | None:
        """Return the specification of the pipeline that a run is of; None where the API doesn't tell."""
        spec, version = run.pipeline_spec, run.pipeline_version_reference
        if spec is None and version is not None:
            ids = version.pipeline_id, version.pipeline_version_id
            spec = self.api.ask(lambda: self._client.get_pipeline_version(*ids)).pipeline_spec
        spec = (spec or {}).get("pipeline_spec", spec)  # beside what Kubernetes adds to it
        return spec if spec and "components" in spec else None

    def stop(self, run_id: str) -> None:
        """Ask Kubeflow to end a run. Raises UserError where it has ended."""
        if (state := self.api.ask(lambda: self._client.get_run(run_id)).state) in ("SUCCEEDED", "FAILED", "CANCELED"):
            raise UserError(f"run {run_id} has ended already: {state}; see {self.link(run_id)}")
        self.api.ask(lambda: self._client.terminate_run(run_id))

    def runs(self, limit: int) -> list[Any]:
        """List the latest runs, the newest first."""
        return list(islice(self._pages(self._client.list_runs, "runs", **self._newest()), limit))

    def schedules(self) -> list[Any]:
        """List the recurring runs, the newest first."""
        return list(self._pages(self._client.list_recurring_runs, "recurring_runs", **self._newest()))

    def unschedule(self, schedule_id: str) -> None:
        """Delete a recurring run; the runs that it started stay."""
        self.api.ask(lambda: self._client.delete_recurring_run(schedule_id))

    def link(self, run_id: str) -> str:
        """Return the address of the run's page."""
        return f"{self.login.host.rstrip('/')}/#/runs/details/{run_id}"

    def command(self, what: str, run_id: str) -> str:
        """Return the command that asks this cluster about a run, such as `follow`."""
        namespace = f" --namespace {self.login.namespace}" if self.login.namespace else ""
        return f"python -m pipelines {what} {run_id} --host {self.login.host}{namespace}"

    def _newest(self) -> dict[str, Any]:
        """Return the arguments that list entries of this namespace, the newest first."""
        return {"sort_by": _NEWEST_FIRST, "namespace": self.login.namespace}

    def _pages(self, list_page: Callable[..., Any], field: str, **about: Any) -> Iterator[Any]:
        """Yield the entries of a list, page by page."""
        token: str | None = ""
        while token is not None:
            asked = {**about, "page_token": token, "page_size": _PAGE}
            page = self.api.ask(lambda asked=asked: list_page(**asked))  # type: ignore[misc]
            yield from getattr(page, field) or []
            token = page.next_page_token or None

    def _prepared(self, compiled: str, experiment: str) -> tuple[str, dict[str, str]]:
        """Return the experiment's id, and the pipeline's version as kfp's client takes it; make what isn't there."""
        pipeline, version = self.upload(compiled)
        created = self.api.ask(lambda: self._client.create_experiment(experiment, namespace=self.login.namespace))
        return str(created.experiment_id), {"pipeline_id": pipeline, "version_id": version}
