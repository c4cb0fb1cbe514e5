"""The spool keeps every whole epoch through a kill at any byte."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segops.tracking.spool import EpochMetrics, Spool


def test_epochs_come_back_in_order_with_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_123_456_789)
    spool = Spool(tmp_path / "folder" / "spool.jsonl")
    spool.append(1, {"val_dice": 0.25})
    spool.append(2, {"val_dice": 0.5})
    expected = [
        EpochMetrics(1, 1_700_000_000_123, {"val_dice": 0.25}),
        EpochMetrics(2, 1_700_000_000_123, {"val_dice": 0.5}),
    ]
    assert spool.read() == expected
    assert Spool(spool.path).read() == expected


def test_an_epoch_that_a_resumed_training_repeats_is_kept_once(tmp_path: Path) -> None:
    Spool(tmp_path / "spool").append(4, {"val_dice": 0.5})
    first = Spool(tmp_path / "spool").read()
    Spool(tmp_path / "spool").append(4, {"val_dice": 0.5})
    assert Spool(tmp_path / "spool").read() == first


def test_a_missing_file_is_an_empty_spool(tmp_path: Path) -> None:
    assert Spool(tmp_path / "spool").read() == []


@given(st.integers(min_value=0, max_value=200))
def test_a_kill_at_any_byte_loses_at_most_the_line_being_written(cut: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "spool"
        spool = Spool(path)
        for epoch in (1, 2, 3):
            spool.append(epoch, {"val_dice": 0.5})
        whole = path.read_bytes()
        path.write_bytes(whole[: min(cut, len(whole))])
        survived = path.read_bytes().count(b"\n")
        # A line that lacks its line end alone is whole JSON and may count.
        assert [one.epoch for one in Spool(path).read()] in ([1, 2, 3][:survived], [1, 2, 3][: survived + 1])
        Spool(path).append(9, {"val_dice": 0.75})
        assert Spool(path).read()[-1].metrics == {"val_dice": 0.75}
        assert [one.epoch for one in Spool(path).read()][:survived] == [1, 2, 3][:survived]
