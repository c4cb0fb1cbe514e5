"""Train under torchrun at several widths, kill workers at random moments, and compare the weights.

    python -m benchmarks.torchrun [--kills 10] [--epochs 40] [--seed 0]

Prepares synthetic images of its own in a temporary folder. Widths: one node of 1, 2 and 4 processes, and two nodes
(agents) of one process each on this machine; then a training that 4 processes begin and 2 end. Exit code 1 where a
killed training doesn't end in the bits of the one that was left alone, or loss curves differ by more than rounding
explains.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from segops.files import sha256_file

_PORT = 29517
_TOLERANCE = 0.01  # of an epoch's loss: sums of a batch are rounded in another order at another width


@dataclass(frozen=True)
class Width:
    """How many agents (nodes) of torchrun, and how many processes each starts."""

    nodes: int
    processes: int

    def __str__(self) -> str:
        return f"{self.nodes} x {self.processes}"


def agents(width: Width, root: Path, *, restarts: int) -> list[subprocess.Popen[bytes]]:
    """Start the agents of a training in a project folder."""
    rendezvous = ["--standalone"]
    if width.nodes > 1:
        rendezvous = [
            f"--nnodes={width.nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{_PORT}", "--rdzv-id=segops",
        ]  # fmt: skip
    command = [
        sys.executable, "-m", "torch.distributed.run", *rendezvous, f"--nproc-per-node={width.processes}",
        f"--max-restarts={restarts}", "--monitor-interval=0.1", "--no-python", "segops", "train", "small",
    ]  # fmt: skip
    log = (root / "log.txt").open("ab")
    return [subprocess.Popen(command, cwd=root, stdout=log, stderr=log) for _ in range(width.nodes)]


def workers(agents: list[subprocess.Popen[bytes]]) -> list[int]:
    """Return the process ids of the agents' workers."""
    found = subprocess.run(
        ["pgrep", "-P", ",".join(str(agent.pid) for agent in agents), "-f", "segops train"],
        capture_output=True,
        check=False,
        text=True,
    )
    return [int(line) for line in found.stdout.split()]


def kill_at_random(running: list[subprocess.Popen[bytes]], root: Path, kills: int, draw: random.Random) -> int:
    """Kill one worker after another by SIGKILL or SIGTERM, each once the training goes on; return how many."""
    done = 0
    while done < kills:
        state = next(root.glob(".segops/checkpoints/*/state.safetensors"), None)
        before = state.stat().st_mtime_ns if state else 0
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:  # until an epoch is kept since the last kill
            if all(agent.poll() is not None for agent in running):
                return done
            state = next(root.glob(".segops/checkpoints/*/state.safetensors"), None)
            if state and state.stat().st_mtime_ns > before:
                break
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.5))
        if pids := workers(running):
            os.kill(draw.choice(pids), draw.choice([signal.SIGKILL, signal.SIGTERM]))
            done += 1
    return done


def train(width: Width, root: Path, *, kills: int = 0, seed: int = 0) -> tuple[str, int]:
    """Train to the end; return the hash of the weights and the kills on the way."""
    running = agents(width, root, restarts=3 * kills)
    done = kill_at_random(running, root, kills, random.Random(seed)) if kills else 0
    codes = [agent.wait() for agent in running]
    weights = root / "models/candidates/small/weights.safetensors"
    if any(codes) or not weights.is_file():
        sys.exit(f"{width}: torchrun ended with {codes}; see {(root / 'log.txt').read_text()[-2000:]}")
    return sha256_file(weights), done


def project(root: Path, epochs: int, prepared: Path | None = None) -> Path:
    """Write a project of a small ResUNet, and prepare its images or take them from another project."""
    recipe = {"epochs": epochs, "batch_size": 5, "precision": "fp32", "ema_decay": 0.8, "augment": {"rotate_deg": 10}}
    network = {"model": {"architecture": "resunet", "filters": [4, 8, 16]}, "input": {"size": 64}, "recipe": recipe}
    params = {
        "runtime": {"threads": 1, "device": "cpu", "elastic": True},
        "ingest": {"source": "synthetic://nuclei?n=40&size=64&seed=3"},
        "candidates": {"small": network},
    }
    root.mkdir()
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    if prepared is not None:
        shutil.copytree(prepared / "data/prepared", root / "data/prepared")
    else:
        for stage in ("ingest", "validate", "split", "prepare"):
            subprocess.run(["segops", stage], cwd=root, check=True, capture_output=True)
    return root


def furthest(root: Path, other: Path) -> float:
    """Return the largest difference of a loss of an epoch between two trainings."""
    curves = [pd.read_csv(folder / "models/candidates/small/history.csv") for folder in (root, other)]
    losses = [curve[["train_loss", "val_loss"]].to_numpy() for curve in curves]
    return float(abs(losses[0] - losses[1]).max())


def main() -> None:
    """Print a line a width, and one of the training that changes its width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    scratch, wrong = Path(tempfile.mkdtemp()), False
    try:
        single = project(scratch / "single", arguments.epochs)
        for number, width in enumerate((Width(1, 1), Width(1, 2), Width(1, 4), Width(2, 1))):
            whole = single if number == 0 else project(scratch / f"whole{number}", arguments.epochs, single)
            expected, _ = train(width, whole)
            killed = project(scratch / f"killed{number}", arguments.epochs, single)
            found, kills = train(width, killed, kills=arguments.kills, seed=arguments.seed + number)
            difference = furthest(single, whole)
            wrong |= found != expected or difference > _TOLERANCE
            print(
                f"{width}: {kills} kills, weights {'equal' if found == expected else 'DIFFERENT'}; "
                f"its losses differ from 1 x 1 by at most {difference:.1e}",
                flush=True,
            )
        narrowed = project(scratch / "narrowed", arguments.epochs, single)
        running = agents(Width(1, 4), narrowed, restarts=0)
        while not any(narrowed.glob(".segops/checkpoints/*/state.safetensors")):
            time.sleep(0.05)
        for agent in running:
            agent.terminate()
            agent.wait()
        train(Width(1, 2), narrowed)
        difference = furthest(single, narrowed)
        wrong |= difference > _TOLERANCE
        print(f"begun by 4, ended by 2: its losses differ from 1 x 1 by at most {difference:.1e}")
        sys.exit(wrong)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
