"""Submitting the pipeline to a cluster, against a strict double of its API over HTTP."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipelines import __main__ as command
from pipelines.api import Login
from pipelines.cluster import Cluster
from segops.errors import UserError
from segops.params.project import load_params
from tests.support.run_api import RunApi

pytest_plugins = ["tests.support.run_api"]
COMPILED = "pipelineInfo: {name: segops-training}\n---\nplatforms: {}\n"
VERSIONS = "GET /pipelines/pipeline-1/versions"
UPLOAD = ["GET /pipelines", "POST /pipelines/upload", VERSIONS, "POST /pipelines/upload_version"]
START = ["GET /experiments", "POST /experiments", "POST /runs"]


@pytest.fixture
def api() -> RunApi:
    return RunApi()


def cluster(host: str, **login: Any) -> Cluster:
    return Cluster(Login(host, "lab", **login), pause_s=0)


def start(host: str, **login: Any) -> str:
    return cluster(host, **login).start(COMPILED, {"code": "c"}, experiment="nuclei", name="segops-nuclei")


def complaint(host: str, **login: Any) -> str:
    with pytest.raises(UserError) as error:
        start(host, **login)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(host)


def test_a_run_is_uploaded_and_started_with_these_requests(api: RunApi, host: str) -> None:
    assert start(host) == "run-1"
    assert api.asked == UPLOAD + START
    assert api.versions["pipeline_version-1"]["package"] == COMPILED
    assert api.experiments["experiment-1"]["namespace"] == "lab"
    run = api.runs["run-1"]
    assert run["experiment_id"] == "experiment-1"
    assert run["display_name"] == "segops-nuclei"
    assert run["pipeline_version_reference"] == {
        "pipeline_id": "pipeline-1",
        "pipeline_version_id": "pipeline_version-1",
    }
    assert run["runtime_config"]["parameters"] == {"code": "c"}


def test_what_is_there_is_used_again(api: RunApi, host: str) -> None:
    start(host)
    api.asked.clear()
    assert start(host) == "run-2"
    assert api.asked == ["GET /pipelines", VERSIONS, "GET /experiments", "POST /runs"]


def test_a_version_is_found_on_any_page(api: RunApi, host: str) -> None:
    start(host)
    newest = api.versions.pop("pipeline_version-1")
    older = {f"v{number}": {**newest, "display_name": f"v{number}"} for number in range(250)}
    api.versions = {**older, "pipeline_version-1": newest}
    start(host)
    assert len(api.versions) == 251
    assert sum(asked.startswith("GET /pipelines/pipeline-1/versions") for asked in api.asked[-8:]) == 3


def test_a_busy_server_is_asked_again_and_a_run_is_never_started_twice(api: RunApi, host: str) -> None:
    api.faults = [503, 502, 503]
    assert start(host) == "run-1"
    assert api.asked == ["GET /pipelines"] * 3 + UPLOAD + START
    api.asked.clear()

    def busy_at_the_end(method: str, path: str, *rest: Any) -> Any:
        return (503, {}) if path.endswith("/runs") else RunApi.answer(api, method, path, *rest)

    api.answer = busy_at_the_end  # type: ignore[method-assign,assignment]
    assert "the server answered 503" in complaint(host)
    assert api.asked.count("POST /runs") == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_asked_again(status: int, api: RunApi, host: str) -> None:
    api.faults = [status]
    assert start(host) == "run-1"
    assert api.asked == ["GET /pipelines", *UPLOAD, *START]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, ": it refuses the request (Bad Request); see that the cluster runs Kubeflow Pipelines 2.17 or newer"),
        (401, ": it wants a login; set KFP_TOKEN or pass --token-file"),
        (403, ": this account may not do that in namespace lab; ask for the role that runs pipelines there"),
        (404, ": it doesn't know that (Not Found); correct --host and --namespace, or the run's id"),
        (409, ": it has that already (Conflict); submit under another name"),
        (503, ": the server answered 503 Service Unavailable; see its log"),
    ],
)
def test_a_refusal_is_one_line_with_the_fix(status: int, said: str, api: RunApi, host: str) -> None:
    api.faults = [status] * 9
    assert complaint(host) == said
    assert len(api.asked) == (5 if status == 503 else 1)


def test_a_dead_host_is_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert complaint(dead) == ": no answer; correct --host, or see that the API is reachable from here"


def test_tokens_are_sent_and_never_shown(api: RunApi, host: str, tmp_path: Path) -> None:
    api.token = "hidden-token"
    assert start(host, token="hidden-token") == "run-1"
    (tmp_path / "token").write_text("hidden-token")
    assert start(host, token_file=tmp_path / "token") == "run-2"
    text = complaint(host, token="other-hidden-token")
    assert text.startswith(": it wants a login")
    assert "hidden" not in text


_SET = ("--set", "split.seed=5", "--set", "kubeflow.service_account=segops-pipeline")


def test_the_command_submits_all_params_with_changes_and_versions(
    api: RunApi, host: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    made = CliRunner().invoke(command.app, ["submit", "--host", host, *_SET])
    assert made.exit_code == 0, made.output
    assert made.stdout == f"{host}/#/runs/details/run-1\n"
    given = api.runs["run-1"]["runtime_config"]["parameters"]
    params = load_params(root / "params.yaml")
    assert given["split"] == "{fractions: [0.6, 0.2, 0.2], seed: 5}"
    assert api.runs["run-1"]["service_account"] == "segops-pipeline"
    assert [item["candidate"] for item in given["candidates"]] == list(params.candidates)
    assert given["data"] == ""  # asked by each run
    assert len(given["code"]) == 32
    spec, _ = yaml.safe_load_all(api.versions["pipeline_version-1"]["package"])
    assert spec["pipelineInfo"]["name"] == "segops-training"


def test_a_schedule_is_a_recurring_run(api: RunApi, host: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    made = CliRunner().invoke(command.app, ["schedule", "--host", host, "--cron", "0 0 2 * * *"])
    assert made.exit_code == 0, made.output
    assert made.stdout == "recurring run recurring_run-1\n"
    recurring = api.recurring["recurring_run-1"]
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 0 2 * * *"
    assert recurring["max_concurrency"] == 1
    assert recurring["no_catchup"] is True, "nights that the cluster was away aren't made up for all at once"
