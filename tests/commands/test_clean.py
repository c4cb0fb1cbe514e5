"""clean: what no present model refers to goes, what a training holds stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from segops.commands.clean import clean
from segops.data.sources.source import DOWNLOADS
from segops.locks import hold
from segops.params.runtime import RuntimeParams
from segops.training.checkpoint import LOCK_FILE, STATE_FILE
from tests.support.small_models import brightness_params, brightness_program, save_candidate


def _checkpoint(root: Path, key: str) -> Path:
    folder = root / "checkpoints" / key
    folder.mkdir(parents=True)
    (folder / STATE_FILE).write_bytes(b"state")
    return folder


def test_only_checkpoints_of_present_models_and_running_trainings_stay(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "net"
    model = save_candidate(folder, brightness_program(), brightness_params(), checkpoints=["0" * 64])
    present, old, running = (_checkpoint(tmp_path, key) for key in (*model.checkpoints, "1" * 64, "2" * 64))
    derived = tmp_path / "cache" / "3"
    derived.mkdir(parents=True)
    runtime = RuntimeParams(checkpoint_root="checkpoints", cache_root="cache")
    with hold(running / LOCK_FILE):
        assert clean(runtime, models=tmp_path / "models") == [old, derived]
    assert present.is_dir()
    assert running.is_dir()
    assert not old.exists()
    assert not derived.exists()


def test_what_was_fetched_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    fetched = tmp_path / DOWNLOADS / "0"
    fetched.mkdir(parents=True)
    assert clean(RuntimeParams(), models=tmp_path / "models") == [fetched]
    assert not fetched.exists()


def test_where_nothing_was_trained_there_is_nothing_to_remove(tmp_path: Path) -> None:
    assert clean(RuntimeParams(), models=tmp_path / "models") == []
