"""Kill the tracking server in the middle of a training, start it again, and count what it has in the end.

    python -m benchmarks.tracking_outage [--epochs 400] [--away 100]

A real `mlflow server` on SQLite is killed (SIGKILL) once it holds five epochs, and stays away for so many more. Exit
code 1 unless every series has every epoch exactly once, with the value of history.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import yaml

from segops.params.ingest import IngestParams
from segops.params.split import SplitParams
from segops.params.tracking import TrackingParams
from segops.params.validate import ValidateParams
from segops.tracking import runs, store
from tests.support.machine import AllowedEpochs
from tests.support.mlflow_server import MlflowServer

_BEFORE = 5  # epochs in the store before the server is killed
_PATIENCE_S = 600.0
_PROGRAM = "import sys; from segops.cli.main import main; sys.argv = ['segops', *sys.argv[1:]]; main()"


@dataclass(frozen=True)
class Outage:
    """What was counted.

    Attributes:
        missing: rows of history.csv that the store lacks, or has with another value.
        repeated: rows that the store has beyond one an epoch and series.
        away_s: seconds without a server.
        epochs_away: that ended in them.
        epoch_s: median seconds of an epoch while the server answered.
        epoch_away_s: median and longest seconds of an epoch while it didn't.
    """

    epochs: int
    series: int
    rows: int
    missing: int
    repeated: int
    away_s: float
    epochs_away: int
    epoch_s: float
    epoch_away_s: tuple[float, float]


def measure(root: Path, epochs: int, away: int) -> Outage:
    """Train for `epochs` in a process of its own under `root`, `away` of them without a server, and count."""
    prepared, model, spools = _prepared(root), root / "model", root / ".segops/checkpoints"
    params = {
        "model": {"architecture": "unet", "base_filters": 4, "depth": 2},
        "input": {"size": 64},
        "recipe": {"epochs": epochs, "batch_size": 16, "precise_bn_images": None, "precision": "fp32"},
    }
    (root / "params.yaml").write_text(yaml.safe_dump({"ingest": {"source": "unused"}, "candidates": {"small": params}}))
    server = MlflowServer(root)
    server.start()
    allowed = AllowedEpochs(root / "epochs", _BEFORE)  # the training waits there, however fast the machine is
    environment = {**os.environ, **allowed.environment, "DVC_ROOT": str(root), "MLFLOW_TRACKING_URI": server.uri}
    command = [sys.executable, "-c", _PROGRAM, "train", "small", "--params", str(root / "params.yaml")]
    command += ["--prepared", str(prepared), "--model", str(model)]
    training = subprocess.Popen(command, env=environment)
    try:
        _wait(training, lambda: _stored(server) == _BEFORE)
        server.stop()
        gone_ms = time.time_ns() // 1_000_000
        allowed.allow(_BEFORE + away)
        _wait(training, lambda: len(_spooled(spools)) == _BEFORE + away)
        server.start()
        back_ms = time.time_ns() // 1_000_000
        allowed.allow(epochs)
        if training.wait() != 0:
            raise RuntimeError("segops train failed")
        return _counted(server, model, _spooled(spools), gone_ms, back_ms)
    finally:
        training.kill()
        training.wait()
        server.stop()


def _prepared(root: Path) -> Path:
    from segops.stages.ingest import ingest
    from segops.stages.prepare import prepare
    from segops.stages.split import split
    from segops.stages.validate import validate

    dataset, checked, sides = root / "dataset", root / "validation", root / "split"
    ingest(IngestParams(source="synthetic://nuclei?n=48&size=64&seed=3"), dataset=dataset)
    validate(ValidateParams(), dataset=dataset, report=checked)
    split(SplitParams(fractions=(0.5, 0.25, 0.25), seed=9), dataset=dataset, report=checked, split=sides)
    prepare(dataset=dataset, split=sides, prepared=root / "prepared")
    return root / "prepared"


def _wait(training: subprocess.Popen[bytes], until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not until():
        if training.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("segops train ended, or stands still")
        time.sleep(0.2)


def _stored(server: MlflowServer) -> int:
    """Epochs that the server holds of the one run."""
    os.environ["MLFLOW_TRACKING_URI"] = server.uri
    client = store.client()
    experiment = client.get_experiment_by_name(TrackingParams().experiment)
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return len(client.get_metric_history(found[0].info.run_id, runs.metric_name("val_dice"))) if found else 0


def _spooled(folder: Path) -> list[int]:
    """When each epoch ended, milliseconds; the spool is written first, whatever the server does."""
    lines = [line for path in folder.glob("*/spool.jsonl") for line in path.read_text().splitlines()]
    return [int(json.loads(line)["timestamp_ms"]) for line in lines if line.endswith("}")]


def _counted(server: MlflowServer, model: Path, ended_ms: list[int], gone_ms: int, back_ms: int) -> Outage:
    os.environ["MLFLOW_TRACKING_URI"] = server.uri
    client, key = store.client(), json.loads((model / "model.json").read_text())["key"]
    run = runs.find_run(client, experiment=TrackingParams().experiment, candidate="small", key=key)
    assert run is not None, "the run is not there"
    with (model / "history.csv").open(encoding="utf-8", newline="") as file:
        history = list(csv.DictReader(file))
    columns = [name for name in history[0] if name != "epoch"]
    missing = repeated = 0
    for column in columns:
        found = client.get_metric_history(run.info.run_id, runs.metric_name(column))
        held = {row.step: row.value for row in found}
        repeated += len(found) - len(held)
        missing += sum(held.get(int(row["epoch"])) != float(row[column]) for row in history)
    took = [(end, (end - begin) / 1000) for begin, end in pairwise(ended_ms)]
    away = [seconds for end, seconds in took if gone_ms <= end - seconds * 1000 and end < back_ms]
    return Outage(
        epochs=len(history),
        series=len(columns),
        rows=len(history) * len(columns),
        missing=missing,
        repeated=repeated,
        away_s=round((back_ms - gone_ms) / 1000, 1),
        epochs_away=sum(gone_ms <= end < back_ms for end in ended_ms),
        epoch_s=round(statistics.median(seconds for end, seconds in took if not gone_ms <= end < back_ms), 3),
        epoch_away_s=(round(statistics.median(away), 3), round(max(away), 3)),
    )


def main() -> None:
    """Measure, print, and say whether anything was lost or repeated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--away", type=int, default=100, help="epochs without a server")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.epochs, arguments.away)
    print(f"{found.epochs} epochs of {found.series} series: {found.rows} rows")
    print(f"server away for {found.away_s} s, in which {found.epochs_away} epochs ended")
    print(f"missing afterwards: {found.missing}, repeated: {found.repeated}")
    median_s, longest_s = found.epoch_away_s
    print(f"an epoch: {found.epoch_s} s with the server, {median_s} s without it (longest {longest_s} s)")
    sys.exit(bool(found.missing or found.repeated))


if __name__ == "__main__":
    main()
