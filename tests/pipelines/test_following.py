"""The words of `submit --wait` and `follow` for what a real Kubeflow answered, and for what networks do."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipelines import __main__ as command
from pipelines import cluster_commands
from pipelines.api import Login
from pipelines.cluster import Cluster
from pipelines.following import follow
from segops.errors import UserError
from tests.support.run_api import RESET, RunApi, as_of, recorded

pytest_plugins = ["tests.support.run_api"]
LAUNCHER = "I1126 17:38:52.160042      15 launcher_v2.go:208] publish success.\n"
REFUSED = "'nuclei-segmentation' has no alias 'champion'; its versions: 1, 2 (see `segops leaderboard`)"
AGAIN = "submit the same again to go on from the cache and the checkpoints"
Told = Callable[..., tuple[list[str], str | None]]


@pytest.fixture
def api() -> RunApi:
    two = [{"candidate": "resunet", "recipe": "{}"}, {"candidate": "unet", "recipe": "{}"}]
    return RunApi(runs={"r": {"run_id": "r", "runtime_config": {"parameters": {"candidates": two}}}})


@pytest.fixture
def told(api: RunApi, host: str, capsys: pytest.CaptureFixture[str]) -> Told:
    """Follow a run whose answers are these; the lines that it prints, and the one that it ends with."""

    def run(*answers: dict[str, Any], at: str = "17:17:00", **given: Any) -> tuple[list[str], str | None]:
        api.answers = list(answers)
        now = datetime.fromisoformat(f"2026-11-26T{at}").replace(tzinfo=UTC)
        error = None
        try:
            follow(Cluster(Login(host), pause_s=0.01), "r", poll_s=0, now=lambda: now, **given)
        except UserError as raised:
            error = str(raised).replace(f"; see {host}/#/runs/details/r", "")
        said = capsys.readouterr()
        assert said.out == ""
        return said.err.splitlines(), error

    return run


def test_a_run_is_told_by_the_names_of_its_steps_and_candidates(told: Told, api: RunApi) -> None:
    run = recorded("succeeded-two-candidates")
    api.logs["segops-training-rl69t-3742015512"] = f"{LAUNCHER}resunet epoch 3/6: loss 0.4\n{LAUNCHER}"
    answers = [{}, *(as_of(run, time) for time in ("16:49:29", "17:00:02", "17:01:30")), run]
    lines, error = told(*answers, at="17:01:30")
    assert error is None
    assert lines == [
        "run r: waiting for the controller",
        "run r: RUNNING",
        "ingest: done in 1 min 12 s",
        "validate: done in 20 s",
        "split: done in 10 s",
        "prepare: done in 22 s",
        "tune: done in 46 s",
        "train of resunet: resunet epoch 3/6: loss 0.4",
        "train of resunet: done in 40 s",
        "evaluate of resunet: done in 20 s",
        "run r: SUCCEEDED",
        "register of resunet: done in 50 s",
        "train of unet: done in 36 s",
        "evaluate of unet: done in 20 s",
        "the details of its steps are older than its end: Kubeflow shows them as they were before",
    ]


def test_a_killed_training_is_named_with_its_attempts(told: Told, api: RunApi) -> None:
    run = recorded("failed-one-candidate-killed")
    killed = "resunet epoch 31/60: loss 0.2\n"
    api.logs["segops-training-bxzvg-1650390726"] = killed
    api.logs["segops-training-bxzvg-4267449027"] = killed.replace("31", "44") + LAUNCHER
    lines, error = told(as_of(run, "17:21:50"), run)
    cached = [f"{step}: from the cache" for step in ("ingest", "validate", "split", "prepare")]
    assert lines[:6] == ["run r: RUNNING", *cached, "tune: done in 6 min 26 s"]
    no_reason = "it gave no reason (killed? out of memory?), its last line is: resunet epoch"
    assert f"train of resunet: attempt 1 failed: {no_reason} 31/60: loss 0.2; it is tried again" in lines
    assert "train of resunet: resunet epoch 44/60: loss 0.2" in lines
    assert "register of unet: done in 39 s" in lines
    assert error == f"run r ended as FAILED; train of resunet: {no_reason} 44/60: loss 0.2; {AGAIN}"


def test_a_refusal_is_the_steps_own_line(told: Told, api: RunApi) -> None:
    api.logs["segops-batch-inference-27jbc-286726198"] = f"{LAUNCHER}segops: {REFUSED}\n{LAUNCHER}"
    lines, error = told(recorded("failed-batch-predict"))
    assert lines == ["run r: FAILED"]
    assert error == f"run r ended as FAILED; predict: {REFUSED}; {AGAIN}"
    api.logs["segops-batch-inference-27jbc-286726198"] = LAUNCHER
    _, error = told(recorded("failed-batch-predict"))
    assert error is not None
    assert f"its last line is: {LAUNCHER.strip()}; submit" in error
    api.logs.clear()
    _, error = told(recorded("failed-batch-predict"))
    assert error is not None
    assert "predict: its log can't be had (the pod is gone, or this account may not read it)" in error


def test_a_pod_that_cannot_start_is_told_once_and_a_cancelled_run_is_called_so(told: Told) -> None:
    run = recorded("failed-image-missing-then-cancelled")
    waits = as_of(run, "17:17:00")
    lines, error = told(waits, waits, as_of(run, "17:18:02"), run)
    assert lines == [
        "run r: RUNNING",
        "ingest: its pod waits to start since 17:11:44 UTC; `kubectl describe pods --namespace kubeflow --selector "
        "pipeline/runid=r` says why: an image or a secret that isn't there, a quota, no free node",
        "run r: CANCELING",
        "run r: FAILED",
    ]
    assert error == "run r was cancelled during ingest"
    lines, _ = told(waits, run, at="17:14:00")
    assert lines == ["run r: RUNNING", "run r: FAILED"]


def test_old_details_are_said_to_be_old_and_the_reason_is_looked_for_where_it_must_be(
    told: Told, api: RunApi, root: Path
) -> None:
    run = recorded("failed-details-stale")
    _, error = told(run)
    stale = "the details of its steps are older than its end, what failed last isn't in them"
    assert error == f"run r ended as FAILED; {stale}; {AGAIN}"
    spec = (root / "pipelines" / "segops-training.yaml").read_text()
    api.versions["v"] = {"package": spec, "pipeline_id": "p", "pipeline_version_id": "v", "display_name": "v"}
    api.runs["r"]["pipeline_version_reference"] = {"pipeline_id": "p", "pipeline_version_id": "v"}
    below = "segops-training-gb48k(0).root(0).exit-handler-1(0).condition-2(0)"
    api.logs[f"segops-training-gb48k-{_fnv1a(f'{below}.compare(0).executor(0)')}"] = f"segops: {REFUSED}\n"
    _, error = told(run)
    assert error == f"run r ended as FAILED; {stale}; compare: {REFUSED}; {AGAIN}"


def _fnv1a(text: str) -> int:
    """FNV-1a, 32 bits: http://www.isthe.com/chongo/tech/comp/fnv/ ("a" is e40c292c)."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def test_a_run_with_nothing_to_do_says_why(told: Told, api: RunApi) -> None:
    """Its tasks as the controller makes them below a condition that is false; such a run was never recorded."""
    below = "w(0).root(0).exit-handler-1(0)"
    asking = _chain(f"{below}.source-state(0).executor(0)")
    condition = [*_chain(f"{below}.condition-2-driver(0)"), _task(f"{below}.condition-2", None, "SKIPPED")]
    ended = _chain(f"{below}.onExit(0).report-status(0).executor(0)")
    tasks = [*asking, *condition, *ended]
    reason = "nothing to do: the source, the params and the code are those that were compared before: unet is version 2"
    api.logs[f"w-{_fnv1a(f'{below}.source-state(0).executor(0)')}"] = f"{LAUNCHER}{reason}\n{LAUNCHER}"
    lines, error = told({"state": "SUCCEEDED", "run_details": {"task_details": tasks}})
    assert error is None
    assert lines == ["run r: SUCCEEDED", "source-state: done in 9 s", reason]
    tasks += _chain(f"{below}.condition-2(0).ingest(0).executor(0)")
    lines, _ = told({"state": "SUCCEEDED", "run_details": {"task_details": tasks}})
    assert lines == ["run r: SUCCEEDED", "ingest: done in 9 s", "source-state: done in 9 s"]


def _chain(path: str) -> list[dict[str, Any]]:
    """The tasks of all nodes from the workflow to this path, each the parent of the next."""
    cuts = [cut for cut in range(1, len(path)) if path[cut] in ".("]
    paths = [path[:cut] for cut in cuts] + [path]
    return [_task(above, below, "SUCCEEDED") for above, below in zip(paths, [*paths[1:], None], strict=True)]


def _task(path: str, child: str | None, state: str) -> dict[str, Any]:
    return {
        "display_name": path.rpartition(".")[2],
        "state": state,
        "start_time": "2026-11-26T17:00:00Z",
        "end_time": "2026-11-26T17:00:09Z",
        "child_tasks": [{"pod_name": f"w-{_fnv1a(child)}"}] if child else [],
    }


def test_steps_are_called_as_in_the_specification(told: Told, root: Path) -> None:
    assert _fnv1a("a") == 0xE40C292C
    spec = next(yaml.safe_load_all((root / "pipelines" / "segops-training.yaml").read_text()))
    names = {name.removeprefix("exec-") for name in spec["deploymentSpec"]["executors"]}
    lines, _ = told(recorded("succeeded-two-candidates"))
    told_of = {line.partition(":")[0].partition(" of ")[0] for line in lines if ": done" in line}
    assert told_of == names - {"compare", "report-status", "source-state"}


def test_workers_and_unknown_candidates_are_told_by_their_number(told: Told, api: RunApi) -> None:
    del api.runs["r"]["runtime_config"]
    lines, _ = told(as_of(recorded("failed-details-stale"), "17:47:00"), {"state": "SUCCEEDED"})
    assert "tune-worker 0: done in 55 s" in lines
    assert "tune-worker 1: done in 56 s" in lines
    lines, _ = told(recorded("failed-details-stale"))
    assert "train of candidate number 2: done in 42 s" in lines


def test_a_lost_connection_is_waited_for_with_one_line(told: Told, api: RunApi, host: str) -> None:
    api.faults = [503, 502, RESET, RESET, 500, 429, 503]
    lines, error = told({"state": "RUNNING"}, {"state": "SUCCEEDED"})
    assert error is None
    assert (
        lines[0]
        == f"{host}: the server answered 503 Service Unavailable; see its log; the run goes on, waiting for the API"
    )
    assert re.fullmatch(rf"{host} answers again, after \d+ s", lines[1])
    assert lines[2:] == ["run r: RUNNING", "run r: SUCCEEDED"]
    api.faults = [RESET] * 9
    _, error = told({"state": "SUCCEEDED"}, patience_s=0)
    assert error == f"{host}: no answer; correct --host, or see that the API is reachable from here, for 0.0 hours"


def test_unknown_states_are_said_and_followed(told: Told) -> None:
    states = [{"state": state} for state in ("RUNTIME_STATE_UNSPECIFIED", "PAUSED", "PAUSED", "NEW_ONE", "SKIPPED")]
    lines, error = told({}, {"state": None}, *states)
    assert error is None
    assert lines == [f"run r: {said}" for said in ("waiting for the controller", "PAUSED", "NEW_ONE", "SKIPPED")]


def test_a_login_that_ends_is_told_at_once(told: Told, api: RunApi, host: str) -> None:
    api.faults = [401]
    _, error = told({"state": "RUNNING"})
    assert error == f"{host}: it wants a login; set KFP_TOKEN or pass --token-file"


def run_command(host: str, *words: str) -> Any:
    return CliRunner().invoke(command.app, [*words, "--host", host])


def test_ctrl_c_says_that_the_run_goes_on(api: RunApi, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.following.time.sleep", interrupted)
    ended = run_command(host, "follow", "r", "--namespace", "lab")
    where = f"--host {host} --namespace lab"
    assert ended.exit_code == 130
    assert ended.stderr.endswith(
        f"run r goes on; follow it again with `python -m pipelines follow r {where}`, "
        f"end it with `python -m pipelines stop r {where}`\n"
    )
    assert api.stopped == []


def test_runs_are_listed_and_stopped(api: RunApi, host: str) -> None:
    for number in range(150):
        name = f"n{number}"
        api.runs[name] = {"run_id": name, "display_name": "segops-nuclei", "created_at": "2026-11-26T17:38:11Z"}
    listed = run_command(host, "runs", "--limit", "120").stdout.splitlines()
    assert len(listed) == 120
    assert listed[0] == "n149  2026-11-26 17:38  NEW        segops-nuclei"
    assert run_command(host, "stop", "r").exit_code == 0
    assert api.stopped == ["r"]
    api.answers = [{"state": "FAILED"}]
    with pytest.raises(UserError, match=r"^run r has ended already: FAILED; see http"):
        cluster_commands.stop("r", host)
    with pytest.raises(UserError, match=r"it doesn't know that \(Not Found\); correct .* or the run's id$"):
        cluster_commands.follow("no-such-run", host)


def test_schedules_are_listed_and_deleted(api: RunApi, host: str) -> None:
    cron = {"cron_schedule": {"cron": "0 0 2 * * *"}}
    about = {"display_name": "segops-nuclei", "trigger": cron, "status": "ENABLED", "recurring_run_id": "s"}
    api.recurring["s"] = about
    assert run_command(host, "schedules").stdout == "s  ENABLED  '0 0 2 * * *'  segops-nuclei\n"
    assert run_command(host, "unschedule", "s").stdout == "recurring run s is deleted\n"
    assert api.recurring == {}
