"""The watchdog: an alias moved by hand is reported or moved back, with signatures a forged ledger is refused."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from segops.commands import watch as module
from segops.commands.history import history
from segops.commands.promote import promote
from segops.commands.watch import register_webhook, watch
from segops.contracts.decision import Decision
from segops.errors import TryAgainError, UserError
from segops.params.promote import PromoteParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.params.watch import WatchParams
from segops.tracking import artifacts, promoted, registry, signing, store
from segops.tracking import watch as looking
from tests.support.judged_candidates import add_version
from tests.support.mlflow_server import MlflowServer, free_port, own_names

pytest_plugins = ["tests.support.mlflow_stores"]

PROMOTE = PromoteParams(min_groups=2, min_subgroup_images=2)
RUNTIME = RuntimeParams(threads=1, device="cpu")
SECRET = "of-the-tests-and-long"


def _two_versions(folder: Path, tracking: TrackingParams) -> tuple[int, int]:
    """The first one is the champion by decision 1."""
    first = add_version(folder, tracking, "first", test=[0.8] * 4)
    second = add_version(folder, tracking, "second", test=[0.9] * 4)
    promote(str(first), PROMOTE, RUNTIME, tracking, confirm=lambda _: True, who="ann")
    return first, second


def _by_hand(tracking: TrackingParams, version: int | None) -> None:
    registry.set_alias(store.client(), tracking.model_name, registry.CHAMPION, version)


def _once(tracking: TrackingParams, action: str = "report") -> tuple[Any, list[dict[str, Any]]]:
    said: list[dict[str, Any]] = []
    found = watch(WatchParams(action=action), tracking, say=said.append, once=True)
    assert found is not None
    return found, said


def test_a_look_reports_and_a_revert_restores_by_a_decision_of_its_own(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    first, second = _two_versions(tmp_path, tracking)
    found, _ = _once(tracking)
    assert (found.status, found.champion, found.decision) == ("agrees", first, 1)
    for moved_to in (second, None):
        _by_hand(tracking, moved_to)
        found, said = _once(tracking)
        assert (found.status, found.champion, found.expected) == ("moved", moved_to, first)
        assert [line["status"] for line in said] == ["moved"]
        assert "moved by hand" in said[0]["text"]
        found, said = _once(tracking, "revert")
        assert [line["status"] for line in said] == ["moved", "reverted"]
        assert _once(tracking, "revert")[0].status == "agrees"  # its own move is known
    entries = history(tracking).decisions
    assert [(one.number, one.action, one.from_version, one.to_version, one.by_hand) for one in entries] == [
        (1, "promote", None, first, False),
        (2, "rollback", second, first, True),
        (3, "rollback", None, first, True),
    ]
    assert entries[1].who.startswith("segops watch@")
    assert history(tracking).problems() == []


def test_the_watchdog_looks_and_reverts_where_torch_is_absent(file_store: Path, root: Path, tmp_path: Path) -> None:
    """And all else that the image `data` doesn't have."""
    tracking = own_names()
    first, second = _two_versions(tmp_path, tracking)
    _by_hand(tracking, second)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["tracking"] = {"experiment": tracking.experiment, "model_name": tracking.model_name}
    params["watch"] = {"action": "revert"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    absent = ("torch", "cmaes", "lightning_fabric", "monai", "optuna", "psutil", "safetensors", "skimage")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); from segops.cli.main import main; main()"
    command = [sys.executable, "-c", code, "watch", "--once"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [json.loads(said)["status"] for said in done.stdout.splitlines()] == ["moved", "reverted"]
    assert registry.alias(store.client(), tracking.model_name, registry.CHAMPION) == first


def test_replaced_weights_and_a_damaged_ledger_are_reported_and_never_reverted(
    file_store: Path, tmp_path: Path
) -> None:
    tracking = own_names()
    _first, second = _two_versions(tmp_path, tracking)
    [weights] = [
        path
        for path in tmp_path.glob("mlartifacts/**/weights.safetensors")
        if json.loads((path.parent / "model.json").read_text())["candidate"] == "first"
    ]
    kept = weights.read_bytes()
    weights.write_bytes(kept + b" ")
    assert _once(tracking)[0].status == "weights"
    weights.write_bytes(kept)
    assert _once(tracking)[0].status == "agrees"
    client = store.client()
    [entry] = list(history(tracking).entries)
    forged = entry.line.replace('"ann"', '"eve"')
    client.set_tag(entry.run_id, "segops.decision.000", forged)
    _by_hand(tracking, second)
    found, said = _once(tracking, "revert")
    assert (found.status, len(said)) == ("ledger", 1)
    assert registry.alias(client, tracking.model_name, registry.CHAMPION) == second


def test_a_bucket_that_is_away_is_no_replaced_weights(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> Path:
        raise TryAgainError("s3://models/1/weights.safetensors can't be read: connection refused")

    tracking = own_names()
    _two_versions(tmp_path, tracking)
    monkeypatch.setattr(artifacts, "fetch", away)
    with pytest.raises(TryAgainError, match="connection refused"):
        _once(tracking)


def test_a_person_who_decides_first_is_left_alone(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = own_names()
    first, second = _two_versions(tmp_path, tracking)
    _by_hand(tracking, second)
    seen = looking.look
    decided: list[object] = []

    def decided_meanwhile(*given: Any, **options: Any) -> looking.Finding:
        found = seen(*given, **options)
        if not decided:
            decided.append(promote(str(second), PROMOTE, RUNTIME, tracking, confirm=lambda _: True, who="ann"))
        return found

    monkeypatch.setattr(looking, "look", decided_meanwhile)
    _, said = _once(tracking, "revert")
    assert [line["status"] for line in said] == ["moved", "agrees"]
    assert registry.alias(store.client(), tracking.model_name, registry.CHAMPION) == second
    assert [(one.who, one.to_version) for one in history(tracking).decisions] == [("ann", first), ("ann", second)]


def test_a_ledger_rewritten_as_a_whole_is_refused_where_keys_are_known(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segops.files import sha256_lines

    names = own_names()
    public = signing.keygen(tmp_path / "ann.pem")
    tracking = names.model_copy(update={"decision_keys": (public,)})
    first = add_version(tmp_path, tracking, "first", test=[0.8] * 4)
    second = add_version(tmp_path, tracking, "second", test=[0.9] * 4)
    with pytest.raises(UserError, match=r"decisions must be signed: set SEGOPS_SIGNING_KEY to one of"):
        promote(str(first), PROMOTE, RUNTIME, tracking, confirm=lambda _: True)
    monkeypatch.setenv("SEGOPS_SIGNING_KEY", str(tmp_path / "ann.pem"))
    promote(str(first), PROMOTE, RUNTIME, tracking, confirm=lambda _: True, who="ann")
    promote(str(second), PROMOTE, RUNTIME, tracking, confirm=lambda _: True, who="ann")
    assert history(tracking).problems() == []
    assert promoted.fetch(tracking, "champion", tmp_path / "used").version == second
    client = store.client()
    previous: list[str] = []
    for entry in history(tracking).entries:  # a consistent chain, with the tag that names its end
        decision = Decision.model_validate_json(entry.line)
        line = decision.model_copy(update={"who": "eve", "previous": previous}).model_dump_json()
        client.set_tag(entry.run_id, "segops.decision.000", line)
        previous = [sha256_lines([line])]
    client.set_registered_model_tag(tracking.model_name, "segops.ledger.head", previous[0])
    assert history(names).problems() == []  # nobody could tell without the keys
    refusal = "the ledger can't be believed: decision 1 .* isn't signed by a key of tracking.decision_keys"
    for use in (
        lambda: promoted.fetch(tracking, "champion", tmp_path / "again"),
        lambda: promote(str(first), PROMOTE, RUNTIME, tracking, confirm=lambda _: True),
    ):
        with pytest.raises(UserError, match=refusal):
            use()
    assert _once(tracking)[0].status == "ledger"


def test_a_ledger_from_before_the_keys_is_signed_by_who_vouches_for_it(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segops.commands.sign import sign

    names = own_names()
    first, _ = _two_versions(tmp_path, names)
    tracking = names.model_copy(update={"decision_keys": (signing.keygen(tmp_path / "ann.pem"),)})
    assert "isn't signed" in history(tracking).problems()[0]
    monkeypatch.setenv("SEGOPS_SIGNING_KEY", str(tmp_path / "ann.pem"))
    with pytest.raises(UserError, match="declined; nothing was signed"):
        sign(tracking, confirm=lambda _: False)
    assert sign(tracking, confirm=lambda _: True) == 1
    assert history(tracking).problems() == []
    assert promoted.fetch(tracking, "champion", tmp_path / "used").version == first
    signing.keygen(tmp_path / "eve.pem")
    monkeypatch.setenv("SEGOPS_SIGNING_KEY", str(tmp_path / "eve.pem"))
    with pytest.raises(UserError, match=r"the key of SEGOPS_SIGNING_KEY isn't one of tracking.decision_keys"):
        promote("2", PROMOTE, RUNTIME, tracking, confirm=lambda _: True)


@pytest.fixture
def hooked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Iterator[MlflowServer]:
    """A server of its own that may post to this machine."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "server.db").write_bytes(empty_store.read_bytes())
    server = MlflowServer(
        tmp_path / "server",
        MLFLOW_WEBHOOK_ALLOWED_SCHEMES="http,https",
        MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS="true",
        MLFLOW_WEBHOOK_CACHE_TTL="1",
        MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY="M" * 43 + "=",
    )
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield server
    server.stop()


def _curl(server: MlflowServer, tracking: TrackingParams, version: int) -> None:
    body = json.dumps({"name": tracking.model_name, "alias": "champion", "version": str(version)})
    url = f"{server.uri}/api/2.0/mlflow/registered-models/alias"
    command = ["curl", "--silent", "--fail", "--request", "POST", "--json", body, url]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.mark.slow
def test_a_server_tells_of_an_alias_moved_by_curl_and_the_alias_goes_back(
    hooked: MlflowServer, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`segops watch` in a process of its own looks once an hour: what it does here, a webhook told it."""
    tracking = own_names()
    first, second = _two_versions(tmp_path, tracking)
    monkeypatch.setenv("SEGOPS_WEBHOOK_SECRET", SECRET)
    port = free_port()
    assert register_webhook(f"http://127.0.0.1:{port}/")
    assert not register_webhook(f"http://127.0.0.1:{port}/")
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["tracking"] = {"experiment": tracking.experiment, "model_name": tracking.model_name}
    params["watch"] = {"action": "revert", "every_s": 3600, "port": port}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command = [sys.executable, "-c", "from segops.cli.main import main; main()", "watch"]
    log = tmp_path / "watch.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=subprocess.STDOUT, env=dict(os.environ))
    try:
        _wait(lambda: '"agrees"' in log.read_text(), log)
        waits = []
        for _ in range(3):
            time.sleep(1.5)  # the server reads its webhooks anew once a second
            _curl(hooked, tracking, second)
            moved = time.monotonic()
            _wait(lambda: registry.alias(store.client(), tracking.model_name, "champion") == first, log)
            waits.append(time.monotonic() - moved)
            _wait(lambda: log.read_text().count('"reverted"') == len(waits), log)
        shown = ", ".join(f"{one:.2f}" for one in waits)
        sys.stdout.write(f"\nseconds from curl to the alias being back: {shown}\n")
        state = requests.get(f"http://127.0.0.1:{port}/health", timeout=10).json()
        assert not state["late"]
        assert requests.post(f"http://127.0.0.1:{port}/", data=b"{}", timeout=10).status_code == 401
    finally:
        process.terminate()
    assert process.wait(60) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one["status"] for one in lines if one["status"] in ("moved", "reverted")] == ["moved", "reverted"] * 3
    assert SECRET not in log.read_text()
    moves = history(tracking).moves
    assert [(one.number, one.to_version) for one in moves] == [(1, first), (2, first), (3, first), (4, first)]


def _wait(done: Any, log: Path, limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_an_address_that_the_server_refuses_is_one_line(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGOPS_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("server").uri)
    with pytest.raises(UserError, match=r"MLflow doesn't take http://127.0.0.1:9/ .*MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"):
        register_webhook("http://127.0.0.1:9/")
    monkeypatch.delenv("SEGOPS_WEBHOOK_SECRET")
    with pytest.raises(UserError, match="set SEGOPS_WEBHOOK_SECRET"):
        register_webhook("http://127.0.0.1:9/")


def test_webhooks_come_from_a_server_alone(file_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGOPS_WEBHOOK_SECRET", SECRET)
    with pytest.raises(UserError, match="webhooks come from a server"):
        register_webhook("http://127.0.0.1:9/")


def test_a_store_that_goes_away_is_a_line_and_looking_goes_on(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = own_names()
    _two_versions(tmp_path, tracking)
    monkeypatch.setattr(module, "_AGAIN_S", 0.05)
    said: list[str] = []
    looks = [UserError("MLflow does not answer"), UserError("MLflow does not answer"), None]
    seen = looking.look

    def flaky(*given: Any, **options: Any) -> looking.Finding:
        if not looks:
            raise KeyboardInterrupt
        if (error := looks.pop(0)) is not None:
            raise error
        return seen(*given, **options)

    monkeypatch.setattr(looking, "look", flaky)
    before = threading.active_count()
    with contextlib.suppress(KeyboardInterrupt):
        watch(WatchParams(every_s=1), tracking, say=lambda line: said.append(line["status"]))
    assert said == ["started", "waiting", "agrees"]
    assert threading.active_count() < before + 5, "a look leaves no thread of its own"
