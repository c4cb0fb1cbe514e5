"""Metrics on disk before they go anywhere else: one JSON line per epoch."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from segops.files import parse_json


@dataclass(frozen=True)
class EpochMetrics:
    """Holds what an epoch measured, and when, so that sending it twice makes one row."""

    epoch: int
    timestamp_ms: int
    metrics: dict[str, float]


class Spool:
    """An append-only file of metrics that survives a kill at any moment, as a torn last line is ignored.

    An epoch that a resumed training repeats is kept once: resuming gives the same numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = {epoch.epoch for epoch in self.read()}

    def append(self, epoch: int, metrics: dict[str, float]) -> None:
        """Write one epoch and flush it to the disk, unless the file has that epoch."""
        if epoch in self._seen:
            return
        line = json.dumps(asdict(EpochMetrics(epoch, time.time_ns() // 1_000_000, metrics)))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.write((b"\n" if self._is_torn(file.tell()) else b"") + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._seen.add(epoch)

    def _is_torn(self, size: int) -> bool:
        """Tell whether the file's last line was cut off."""
        return size > 0 and not self.path.read_bytes().endswith(b"\n")

    def read(self) -> list[EpochMetrics]:
        """Read the epochs of all whole lines, in the order written."""
        if not self.path.exists():
            return []
        found: dict[int, EpochMetrics] = {}
        for line in self.path.read_bytes().splitlines():
            try:
                epoch = EpochMetrics(**parse_json(line))
            except (ValueError, TypeError):
                continue
            found.setdefault(epoch.epoch, epoch)
        return list(found.values())
