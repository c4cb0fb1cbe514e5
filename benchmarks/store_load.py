"""What commands cost in a store with many runs and versions: python -m benchmarks.store_load [RUNS..].

A run and a version are copied by SQL until the store holds so many of each, with tags of their own. Printed for each
command are SQL statements and CPU seconds.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_OF_RUN = ("runs", "params", "tags", "metrics", "latest_metrics")
_OF_VERSION = ("model_versions", "model_version_tags")


def main(counts: list[int]) -> None:
    """A store for each count, the smallest first, and a line a command."""
    print(f"{'runs and versions':>18}  {'command':10} {'statements':>10} {'CPU s':>7}")
    for count in sorted(counts):
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"DVC_ROOT": folder, "MLFLOW_TRACKING_URI": ""}
            measure(Path(folder), count)


def measure(root: Path, count: int) -> None:
    """Fill a store, then use it."""
    from segops.commands.history import history
    from segops.commands.promote import promote, rollback
    from segops.params.compare import CompareParams
    from segops.params.promote import PromoteParams
    from segops.params.register import RegisterParams
    from segops.params.runtime import RuntimeParams
    from segops.params.tracking import TrackingParams
    from segops.stages.compare import compare
    from segops.stages.register import register
    from segops.tracking import promoted
    from tests.support.judged_candidates import add_version, folders, write_candidate

    tracking, runtime = TrackingParams(), RuntimeParams(threads=1, device="cpu")
    params = PromoteParams(min_groups=2, min_subgroup_images=2)
    for name in "ab":
        add_version(root, tracking, name, test=[0.9] * 8)
    copy_rows(root / "mlflow.db", count)
    places = folders(root)
    for name in "cd":
        write_candidate(root, name, test=[0.9] * 8)
    register(RegisterParams(), tracking, model=places.models / "c", report=places.reports / "c")  # imports once
    commands: dict[str, Callable[[], object]] = {
        "register": lambda: register(
            RegisterParams(), tracking, model=places.models / "d", report=places.reports / "d"
        ),
        "compare": lambda: compare(
            CompareParams(), tracking, ["c", "d"],
            reports=places.reports, models=places.models, comparison=places.comparison,
        ),
        "promote": lambda: promote("1", params, runtime, tracking, confirm=lambda _: True),
        "again": lambda: promote("2", params, runtime, tracking, confirm=lambda _: True),
        "rollback": lambda: rollback(tracking, confirm=lambda _: True),
        "history": lambda: history(tracking),
        "champion": lambda: promoted.fetch(tracking, "champion", root / "used"),
    }  # fmt: skip
    for name, command in commands.items():
        statements, seconds = counted(command)
        print(f"{count:18}  {name:10} {statements:10} {seconds:7.2f}", flush=True)


def copy_rows(store: Path, count: int) -> None:
    """Copy run and version of the first candidate until there are `count` of each."""
    with sqlite3.connect(store) as database:
        (run,) = database.execute("SELECT run_id FROM model_versions WHERE version = 1").fetchone()
        for table in (*_OF_RUN, *_OF_VERSION):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            key, value = ("run_uuid", run) if table in _OF_RUN else ("version", 1)
            rows = database.execute(f"SELECT * FROM {table} WHERE {key} = ?", (value,)).fetchall()
            marks = ", ".join("?" * len(columns))
            for number in range(3, count + 1):
                own = {key: f"{number:032x}" if table in _OF_RUN else number}
                copies = [copied(dict(zip(columns, row, strict=True)), own, number) for row in rows]
                database.executemany(f"INSERT INTO {table} VALUES ({marks})", [tuple(row.values()) for row in copies])


def copied(row: dict[str, Any], own: dict[str, Any], number: int) -> dict[str, Any]:
    """A row of another run or version: what names weights, candidate or key is its own."""
    unique = row.get("key") in ("weights_sha256", "candidate", "segops.key", "segops.mark", "key")
    return row | own | ({"value": f"{row['value'][:40]}-{number}"} if unique else {})


def counted(command: Callable[[], object]) -> tuple[int, float]:
    """SQL statements and CPU seconds of a command."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    seen: list[str] = []

    def note(*given: Any) -> None:
        seen.append(given[2])

    event.listen(Engine, "before_cursor_execute", note)
    began = time.process_time()
    command()
    event.remove(Engine, "before_cursor_execute", note)
    return len(seen), time.process_time() - began


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [20, 200, 2000])
