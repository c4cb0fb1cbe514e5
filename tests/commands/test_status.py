"""segops status: what is done and running, who is champion, and no error because something can't be found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from segops.commands.status import Status, status
from segops.locks import hold
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.tracking import registry, runs, store
from tests.support.judged_candidates import add_version
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]


def _status(tracking: TrackingParams, folder: Path) -> Status:
    pages = {"comparison": folder / "index.html"}
    return status(tracking, RuntimeParams(), pages=pages, comparison=folder)


def test_aliases_and_pages_are_named(file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tracking, client = own_names(), store.client()
    assert _status(tracking, tmp_path).champion == "none"
    first, second = (add_version(tmp_path, tracking, name) for name in ("small", "large"))
    registry.set_alias(client, tracking.model_name, registry.CHAMPION, first)
    registry.set_alias(client, tracking.model_name, registry.CHALLENGER, second)
    (tmp_path / "index.html").touch()
    found = _status(tracking, tmp_path)
    assert found.champion.startswith(f"version {first} (small), champion by hand, by no decision")
    assert found.challenger == f"version {second} (large)"
    assert found.pages == {"comparison": str(tmp_path / "index.html")}
    assert found.unknown == "there is no dvc.yaml here"


def test_a_training_runs_or_was_cut_off(file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tracking, client = own_names(), store.client()
    key = "0123abcd" * 8
    run = runs.open_run(client, experiment=tracking.experiment, candidate="small", key=key, params={}, tags={})
    client.update_run(run.info.run_id, status="RUNNING")
    client.set_tag(run.info.run_id, "progress", "epoch 2 of 6, 8 s left, until 10:30 UTC")
    told = {"small": "epoch 2 of 6, 8 s left, until 10:30 UTC"}
    assert (_status(tracking, tmp_path).running, _status(tracking, tmp_path).cut_off) == (told, {})  # elsewhere
    lock = tmp_path / RuntimeParams().checkpoint_root / key / "lock"
    with hold(lock):
        assert _status(tracking, tmp_path).running == told
    assert (_status(tracking, tmp_path).running, _status(tracking, tmp_path).cut_off) == ({}, told)


def test_what_a_running_repro_writes_is_named_and_a_dead_one_is_not(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "dvc"  # as DVC does while a stage of another command is at work
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    locks = tmp_path / ".dvc/tmp/rwlock"
    locks.parent.mkdir(parents=True)
    for pid, told in ((os.getpid(), "`dvc repro` is writing reports/tuning"), (ended.pid, "DVC doesn't answer")):
        locks.write_text(json.dumps({"read": {}, "write": {str(tmp_path / "reports/tuning"): {"pid": pid, "cmd": ""}}}))
        assert told in _status(own_names(), tmp_path).unknown


def test_mlflow_that_is_away_is_told_and_no_error(
    mlflow_away: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "does not answer" in _status(own_names(), tmp_path).mlflow


def test_a_status_is_lines_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    from segops.cli.printing import print_status

    found = Status(done=["ingest"], stale=["train@unet"], running={"unet": "epoch 1 of 2"}, mlflow="sqlite:///m.db")
    print_status(found, as_json=True)
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (shown["done"], shown["stale"], shown["champion"]) == (["ingest"], ["train@unet"], "none")
    print_status(found, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["graph", "stale", "training", "champion", "challenger", "MLflow"]
    assert lines[0].endswith("1 of 2 stages done")
