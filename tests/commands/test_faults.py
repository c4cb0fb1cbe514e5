"""Broken requests of a registration and of a promotion, before a real server: nothing unknown, lost or doubled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from segops.commands.history import history
from segops.commands.promote import promote
from segops.contracts.trials import TrialRecord
from segops.errors import OneLineError, UserError
from segops.params.promote import PromoteParams
from segops.params.register import RegisterParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.register import register
from segops.tracking import ledger as ledger_module
from segops.tracking import model as model_module
from segops.tracking import registry, store
from segops.tracking.search_run import SearchRun
from tests.support.fault_proxy import FAULTS, Fault, FaultProxy, Rule, fault_proxy
from tests.support.judged_candidates import add_version, folders, write_candidate
from tests.support.mlflow_server import MlflowServer, own_names

pytest_plugins = ["tests.support.mlflow_stores"]

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
RUNTIME = RuntimeParams(threads=1, device="cpu")
EITHER_WAY = PromoteParams(min_groups=2, margin=1.0, subgroup_margin=1.0, min_subgroup_images=2)  # both versions pass
REGISTER = RegisterParams()
# What a registration and a promotion change at the server, by request.
CREATIONS = (("POST", "runs/create"), ("POST", "mlflow/logged-models"), ("POST", "model-versions/create"))
REGISTRATION = (
    ("POST", "experiments/create"),
    ("POST", "runs/create"),
    ("POST", "runs/log-batch"),
    ("POST", "mlflow/logged-models"),
    ("PUT", "model.json"),
    ("POST", "runs/outputs"),
    ("POST", "runs/log-inputs"),
    ("POST", "runs/update"),
    ("POST", "registered-models/create"),
    ("POST", "model-versions/create"),
    ("POST", "model-versions/set-tag"),
    ("PATCH", "model-versions/update"),
)
ONE_OF_EACH = {"runs": ["FINISHED"], "models": ["READY"], "versions": ["READY"]}
PROMOTION = (
    ("POST", "experiments/create"),
    ("POST", "experiments/delete"),
    ("POST", "runs/create"),
    ("POST", "registered-models/set-tag"),
    ("POST", "runs/log-batch"),
    ("POST", "registered-models/alias"),
    ("POST", "runs/update"),
)


def _yes(question: str) -> bool:
    return True


@pytest.fixture
def proxy(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy without rules before the session's server, and the way to it for everything here."""
    with fault_proxy(server.port) as running:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", running.uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        yield running


# ------------------------------------------------------------------------------------------------------- creations


def _left(tracking: TrackingParams) -> dict[str, list[str]]:
    """Status of each run, logged model and version that the store holds."""
    client = store.client()
    experiment = store.experiment_id(client, tracking.experiment)
    return {
        "runs": [run.info.status for run in client.search_runs([experiment])],
        "models": [str(model.status) for model in client.search_logged_models([experiment])],
        "versions": [found.status for found in client.search_model_versions(f"name = '{tracking.model_name}'")],
    }


@pytest.mark.parametrize("fault", ["answer lost", "hung up"])
def test_what_a_lost_answer_created_is_found_and_not_made_again(
    proxy: FaultProxy, tmp_path: Path, fault: Fault
) -> None:
    tracking = own_names()
    proxy.rules += [Rule(*request, fault) for request in CREATIONS]
    add_version(tmp_path, tracking, "small")
    assert [rule.times for rule in proxy.rules] == [0, 0, 0]
    assert {kind: len(found) for kind, found in _left(tracking).items()} == {"runs": 1, "models": 1, "versions": 1}
    created = 1 if fault == "answer lost" else 2
    assert Counter(proxy.seen)[("POST", "/api/2.0/mlflow/runs/create")] == created


def test_a_search_and_its_trials_are_runs_once(proxy: FaultProxy) -> None:
    tracking = own_names()
    proxy.rules.append(Rule("POST", "runs/create", "answer lost", times=2))
    shown = SearchRun(experiment=tracking.experiment, candidate="c", study="s", params={"trials": 1})
    trial = TrialRecord(0, 0, "complete", values={"a": 1}, curve=(0.5,), dice=0.5)
    shown.finish([trial], {"search/best": 0.5})
    assert [rule.times for rule in proxy.rules] == [0]
    assert _left(tracking)["runs"] == ["FINISHED", "FINISHED"]


# ------------------------------------------------------------------------------------------------------- promotion


def _promoted(version: int, tracking: TrackingParams) -> str:
    """What came of a promotion."""
    try:
        promote(str(version), EITHER_WAY, RUNTIME, tracking, confirm=_yes)
    except (OneLineError, KeyboardInterrupt, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return "promoted"


def _assert_known(tracking: TrackingParams, outcome: str, before: int | None, wanted: int, moves: int) -> None:
    """The ledger knows the champion, no entry is left open and none is doubled."""
    snapshot = history(tracking)
    assert snapshot.open == [], outcome
    assert snapshot.problems() == [], outcome
    made = len(snapshot.moves) - moves
    assert (snapshot.champion, made) in ((wanted, 1), (before, 0)), outcome
    if outcome == "promoted":
        assert (snapshot.champion, made) == (wanted, 1)
    numbers = [one.number for one in snapshot.moves]
    assert len(numbers) == len(set(numbers))


def _claims(tracking: TrackingParams) -> list[str]:
    """Names of the claims that clutter MLflow's pages."""
    name = f"name LIKE '{tracking.experiment}-decisions/%'"
    return [claim.name for claim in store.client().search_experiments(filter_string=name)]


@pytest.mark.parametrize(
    ("request_", "fault", "times", "expected"),
    [
        ("registered-models/alias", "answer lost", 1, "promoted"),
        ("registered-models/alias", "hung up", 1, "promoted"),
        ("registered-models/alias", "answer lost", 9, "promoted"),
        ("registered-models/alias", "503", 9, "answers 503"),
        ("runs/create", "answer lost", 1, "promoted"),
        ("runs/update", "503", 9, "answers 503"),
    ],
)
def test_the_ledger_knows_what_became_of_a_promotion(
    proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    request_: str, fault: Fault, times: int, expected: str,
) -> None:  # fmt: skip
    tracking = own_names()
    first, second = (add_version(tmp_path, tracking, name, test=[0.9] * 4) for name in "ab")
    assert _promoted(first, tracking) == "promoted"
    proxy.rules.append(Rule("POST", request_, fault, times))
    outcome = _promoted(second, tracking)
    assert expected in outcome
    proxy.rules.clear()
    if request_ == "registered-models/alias" and fault == "503":
        assert [one.number for one in history(tracking).open] == [2]  # it may still be on its way
        with pytest.raises(UserError, match=r"decision 2 of .* is being made since .*; nothing was changed"):
            promote(str(second), EITHER_WAY, RUNTIME, tracking, confirm=_yes)
        monkeypatch.setattr(ledger_module, "ABANDONED_S", -1.0)
    _assert_known(tracking, outcome, first, second, 1)
    assert _claims(tracking) == []


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_around_the_alias_ends_with_a_closed_entry(
    proxy: FaultProxy, tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    tracking = own_names()
    version = add_version(tmp_path, tracking, "a", test=[0.9] * 4)
    proxy.rules.append(Rule("POST", "registered-models/alias", **{moment: _signal(os.getpid(), number)}))  # type: ignore[arg-type]
    handlers: dict[signal.Signals, Callable[..., Any]] = {
        signal.SIGTERM: _exit,
        signal.SIGINT: signal.default_int_handler,
    }
    former = {heard: signal.signal(heard, handler) for heard, handler in handlers.items()}
    try:
        outcome = _promoted(version, tracking)
    finally:
        for heard, handler in former.items():
            signal.signal(heard, handler)
    assert outcome.startswith("KeyboardInterrupt" if number == signal.SIGINT else "SystemExit")
    _assert_known(tracking, outcome, None, version, 0)
    assert _claims(tracking) == []
    assert history(tracking).champion == version


def _exit(*_: object) -> None:
    raise SystemExit(143)


def _signal(pid: int, number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(pid, number)


def test_what_interrupts_the_very_request_is_no_answer(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = own_names()
    version = add_version(tmp_path, tracking, "a", test=[0.9] * 4)
    move = registry.set_alias

    def interrupted(*given: Any) -> None:
        move(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "set_alias", interrupted)
    assert _promoted(version, tracking).startswith("KeyboardInterrupt")
    _assert_known(tracking, "interrupted", None, version, 0)
    assert history(tracking).champion == version


def test_a_server_that_refuses_the_move_leaves_a_void_entry(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    tracking = own_names()
    version = add_version(tmp_path, tracking, "a", test=[0.9] * 4)

    def refused(*given: Any) -> None:
        raise MlflowException("no such alias", INVALID_PARAMETER_VALUE)

    with monkeypatch.context() as patched, pytest.raises(MlflowException):
        patched.setattr(registry, "set_alias", refused)
        promote(str(version), EITHER_WAY, RUNTIME, tracking, confirm=_yes)
    assert (history(tracking).decisions, history(tracking).open) == ([], [])
    assert promote(str(version), EITHER_WAY, RUNTIME, tracking, confirm=_yes).number == 2  # at once


# -------------------------------------------------------------------------------------------- the whole campaign


def _write_project(root: Path, tracking: TrackingParams) -> None:
    params: dict[str, Any] = {"tracking": tracking.model_dump(), "ingest": {"source": "unused"}}
    params["candidates"] = {"net": {"model": {"architecture": "unet"}}}
    params["promote"] = EITHER_WAY.model_dump(exclude_unset=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def _segops(root: Path, proxy: FaultProxy, *words: str) -> subprocess.Popen[str]:
    # What runs in the background hands on that it ignores SIGINT.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = [sys.executable, "-c", f"{heard}; from segops.cli.main import main; main()", *words]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": proxy.uri, "DVC_ROOT": str(root)}
    return subprocess.Popen(
        program, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_campaign_of_faults_around_a_promotion(
    proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking, outcomes = own_names(), Counter[str]()
    versions = [add_version(tmp_path, tracking, name, test=[0.9] * 4) for name in "ab"]
    assert _promoted(versions[0], tracking) == "promoted"
    for method, path in PROMOTION * ROUNDS:
        for fault, times in [(fault, times) for fault in FAULTS for times in (1, 9)]:
            snapshot = history(tracking)
            before, wanted, moves = snapshot.champion, versions[snapshot.champion == versions[0]], len(snapshot.moves)
            rule = Rule(method, path, fault, times)
            proxy.rules[:] = [rule]
            outcome = _promoted(wanted, tracking)
            proxy.rules.clear()
            case = f"{path} {fault} {times}: {outcome}"
            assert rule.times < times, case
            assert outcome == "promoted" or (times > 1 and fault != "delayed"), case
            with monkeypatch.context() as later:  # minutes later
                later.setattr(ledger_module, "ABANDONED_S", -1.0)
                _assert_known(tracking, case, before, wanted, moves)
                again = _promoted(wanted, tracking)
                _assert_known(tracking, f"{case}; {again}", before, wanted, moves)
                assert _claims(tracking) == [], case
            assert history(tracking).champion == wanted, f"{case}; {again}"
            often, told = "once" if times == 1 else "always", "promoted" if outcome == "promoted" else "told"
            outcomes[f"{fault} {often}: {told}"] += 1
    with capsys.disabled():
        sys.stdout.write(f"\n{dict(outcomes)}\n")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_campaign_of_processes_that_end_around_the_alias(
    proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, number: signal.Signals
) -> None:
    tracking = own_names()
    versions = [add_version(tmp_path, tracking, name, test=[0.9] * 4) for name in "ab"]
    _write_project(tmp_path, tracking)
    for at in range(ROUNDS):
        wanted, before = versions[at % 2], history(tracking).champion
        started = threading.Event()
        process = _segops(tmp_path, proxy, "promote", str(wanted), "--yes")

        def ends(process: subprocess.Popen[str] = process, started: threading.Event = started) -> None:
            started.set()
            process.send_signal(number)

        proxy.rules[:] = [Rule("POST", "registered-models/alias", **{moment: ends})]  # type: ignore[arg-type]
        said = process.communicate(timeout=240)[0]
        assert started.is_set(), said
        assert process.returncode != 0
        assert "Traceback" not in said
        monkeypatch.setattr(ledger_module, "ABANDONED_S", -1.0)
        _assert_known(tracking, said, before, wanted, at)
        assert _claims(tracking) == [], said
        assert history(tracking).champion == wanted
        monkeypatch.undo()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)


@pytest.fixture
def exported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is exported once and copied afterwards: what is tried here are requests."""
    real, kept = model_module.save_model, tmp_path / "exported"

    def save_model(model: Path, folder: Path, *, run_id: str | None = None) -> None:
        if not kept.is_dir():
            real(model, kept, run_id=run_id)
        shutil.copytree(kept, folder)

    monkeypatch.setattr(model_module, "save_model", save_model)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", ["answer lost", "hung up", "503"])
def test_campaign_of_faults_in_a_registration(
    proxy: FaultProxy, tmp_path: Path, exported_once: None, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    outcomes = Counter[str]()
    write_candidate(tmp_path, "small")
    places = folders(tmp_path)
    for request in REGISTRATION * ROUNDS:
        for times in (1, 9):
            tracking = own_names()
            proxy.rules[:] = [Rule(*request, fault, times)]
            try:
                register(REGISTER, tracking, model=places.models / "small", report=places.reports / "small")
                outcomes["registered"] += 1
            except OneLineError:
                outcomes["told, then registered"] += 1
            assert proxy.rules[0].times < times, request
            proxy.rules.clear()
            made = register(
                REGISTER, tracking, model=places.models / "small", report=places.reports / "small"
            )  # the same command again
            assert made.version == 1
            assert _left(tracking) == ONE_OF_EACH, (request, times)
    with capsys.disabled():
        sys.stdout.write(f"\n{fault}: {dict(outcomes)}\n")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["server", "file"])
def test_two_registrations_at_once_make_one_run_and_one_version(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    tracking = own_names()
    write_candidate(tmp_path, "net")
    _write_project(tmp_path, tracking)
    uri = request.getfixturevalue("server").uri if kind == "server" else ""
    if kind == "file":
        request.getfixturevalue("file_store")
    both = [_segops(tmp_path, FaultProxy(0, uri=uri), "register", "net") for _ in range(2)]
    said = [process.communicate(timeout=500)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if kind == "server":
        request.getfixturevalue("monkeypatch").setenv("MLFLOW_TRACKING_URI", uri)
    assert _left(tracking) == ONE_OF_EACH
