"""A real server, a real training, and a SIGKILL between them at a known epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tracking_outage import measure


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_killed_in_mid_training_has_every_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # `measure` sets it
    found = measure(tmp_path, epochs=20, away=8)
    assert (found.missing, found.repeated) == (0, 0)
    assert found.rows == 20 * found.series
    assert found.epochs_away == 8
