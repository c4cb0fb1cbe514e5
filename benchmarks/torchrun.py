"""Train under torchrun at several widths, kill workers and agents at random moments, and compare the weights.

    python -m benchmarks.torchrun [--kills 10] [--epochs 40] [--seed 0] [--widths 1x1 1x2 1x4 2x1 4to2 2to4]

Prepares synthetic images of its own in a temporary folder. Widths are nodes x processes, where a node is an agent of
torchrun on this machine; `4to2` is begun by 4 processes, told to end in mid-epoch, and ended by 2. A worker is killed
by SIGKILL or SIGTERM and started again by its agent. Of several nodes, an agent may be ended by SIGTERM too, as a pod
is that loses its node; then all agents are started anew, as a TrainJob's are. Exit code 1 where a killed training
doesn't end in the bits of the one that was left alone, or where loss curves differ by more than 0.01 and by more than
three times what a learning rate larger by 1e-7 does to a single process: widths round a batch's sums in other orders.
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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import pandas as pd
import yaml

from segops.files import sha256_file
from segops.params.project import load_params

_PORT = 29517
_TOLERANCE = 0.01  # of an epoch's loss: sums of a batch are rounded in another order at another width
_NUDGE, _FACTOR = 1e-7, 3  # a change of the learning rate in its last digits, and how much more widths may change
_NO_SERVER = "http://127.0.0.1:9"  # of MLflow: epochs are kept in a file
_GIVEN_UP_S = 300  # without a kept epoch


class Width(NamedTuple):
    """How many agents (nodes) of torchrun, and how many processes each starts."""

    nodes: int
    processes: int


@dataclass
class Training:
    """A training under torchrun.

    Attributes:
        root: its project's folder.
        killed: what was killed, in order.
        longest_s: the longest time from a kill to the next kept epoch.
    """

    root: Path
    width: Width
    restarts: int = 0
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    started: ClassVar[list[subprocess.Popen[bytes]]] = []  # of all trainings: none outlives this program

    def start(self) -> None:
        """Start the agents, each in a session of its own with its workers."""
        nodes, processes = self.width
        rendezvous = ["--standalone"]
        if nodes > 1:
            place = f"--rdzv-endpoint=127.0.0.1:{_PORT}"
            rendezvous = [f"--nnodes={nodes}", "--rdzv-backend=c10d", place, "--rdzv-id=segops"]
        command = [
            sys.executable, "-m", "torch.distributed.run", *rendezvous, f"--nproc-per-node={processes}",
            f"--max-restarts={self.restarts}", "--monitor-interval=0.1", "--no-python", "segops", "train", "small",
        ]  # fmt: skip
        environment = {**os.environ, "MLFLOW_TRACKING_URI": _NO_SERVER, "OMP_NUM_THREADS": "1"}
        with (self.root / "log.txt").open("ab") as log:
            self.agents = [
                subprocess.Popen(command, cwd=self.root, stdout=log, stderr=log, env=environment) for _ in range(nodes)
            ]
        self.started.extend(self.agents)

    def end_agents(self) -> None:
        """Tell the agents to end, as pods are told, and wait until they have."""
        for agent in self.agents:
            agent.terminate()
        for agent in self.agents:
            agent.wait()

    def workers(self) -> list[int]:
        """Return the process ids of the agents' workers."""
        parents = ",".join(str(agent.pid) for agent in self.agents)
        command = ["pgrep", "-P", parents, "-f", "segops train"]
        listed = subprocess.run(command, capture_output=True, check=False, text=True)
        return [int(line) for line in listed.stdout.split()]

    def kept_ns(self) -> int:
        """Return when the last epoch was kept."""
        states = self.root.glob(".segops/checkpoints/*/state.safetensors")
        return max((path.stat().st_mtime_ns for path in states), default=0)

    def await_epoch(self, after_ns: int) -> bool:
        """Wait until another epoch is kept; False where the training has ended."""
        deadline = time.monotonic() + _GIVEN_UP_S
        while self.kept_ns() <= after_ns:
            if all(agent.poll() is not None for agent in self.agents):
                return False
            if time.monotonic() > deadline:
                sys.exit(f"{self.root}: no epoch was kept in {_GIVEN_UP_S} s after {self.killed[-1:]}")
            time.sleep(0.02)
        return True

    def kill(self, draw: random.Random) -> None:
        """Kill a worker, or of several nodes sometimes an agent."""
        if self.width.nodes > 1 and draw.random() < 0.3:
            self.killed.append("agent SIGTERM")
            draw.choice(self.agents).terminate()
            time.sleep(draw.uniform(0, 0.5))
            self.end_agents()
            self.start()
        elif workers := self.workers():
            number = draw.choice([signal.SIGKILL, signal.SIGTERM])
            self.killed.append(number.name)
            with suppress(ProcessLookupError):
                os.kill(draw.choice(workers), number)

    def run(self, *, kills: int = 0, seed: int = 0) -> str:
        """Train to the end, killed on the way, each time once an epoch is kept; return the hash of the weights."""
        draw, before_ns, began = random.Random(seed), self.kept_ns(), time.monotonic()
        self.start()
        while len(self.killed) < kills and self.await_epoch(before_ns):
            if self.killed:
                self.longest_s = max(self.longest_s, time.monotonic() - began)
            time.sleep(draw.uniform(0, 0.5))
            before_ns, began = self.kept_ns(), time.monotonic()
            self.kill(draw)
        codes = [agent.wait() for agent in self.agents]
        weights = self.root / "models/candidates/small/weights.safetensors"
        if any(codes) or not weights.is_file():
            sys.exit(f"{self.root}: torchrun ended with {codes}; see {(self.root / 'log.txt').read_text()[-2000:]}")
        return sha256_file(weights)


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


def rounding(single: Path, epochs: int) -> float:
    """Return how far a single process's losses move when its learning rate does in the last digits."""
    root = project(single.parent / "nudged", epochs, single)
    params = yaml.safe_load((root / "params.yaml").read_text())
    rate = load_params(root / "params.yaml").candidates["small"].recipe.learning_rate
    params["candidates"]["small"]["recipe"]["learning_rate"] = rate * (1 + _NUDGE)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    Training(root, Width(1, 1)).run()
    difference = furthest(single, root)
    print(f"1x1 with a learning rate larger by {_NUDGE}: losses differ by at most {difference:.1e}", flush=True)
    return difference


def at_width(name: str, single: Path, epochs: int, kills: int, seed: int, most: float) -> bool:
    """Train at a width twice, left alone and killed; print how they compare, and return whether they are right."""
    width = Width(*(int(number) for number in name.split("x")))
    whole = Training(project(single.parent / f"whole{name}", epochs, single), width)
    expected = whole.run()
    killed = Training(project(single.parent / f"killed{name}", epochs, single), width, restarts=3 * kills)
    equal = killed.run(kills=kills, seed=seed) == expected
    kinds = ", ".join(f"{killed.killed.count(kind)} {kind}" for kind in sorted(set(killed.killed)))
    difference = furthest(single, whole.root)
    print(
        f"{name}: {len(killed.killed)} kills ({kinds}), weights {'equal' if equal else 'DIFFERENT'}; the next epoch "
        f"kept {killed.longest_s:.0f} s later at most; losses differ from 1x1 by at most {difference:.1e}",
        flush=True,
    )
    return equal and difference <= most


def between_widths(name: str, single: Path, epochs: int, seed: int, most: float) -> bool:
    """Begin at a width and end at another; print how the losses compare, and return whether they are right."""
    first, second = (Width(1, int(number)) for number in name.split("to"))
    root = project(single.parent / name, epochs, single)
    training, draw = Training(root, first), random.Random(seed)
    training.start()
    for _ in range(draw.randint(2, max(2, epochs // 2))):
        training.await_epoch(training.kept_ns())
    training.end_agents()
    Training(root, second).run()
    difference = furthest(single, root)
    print(f"{name}: losses differ from 1x1 by at most {difference:.1e}", flush=True)
    return difference <= most


def main() -> None:
    """Print a line a width, and one for each training that changes its width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--widths", nargs="+", default=["1x1", "1x2", "1x4", "2x1", "4to2", "2to4"])
    arguments = parser.parse_args()
    scratch, right = Path(tempfile.mkdtemp()), True
    try:
        single = project(scratch / "single", arguments.epochs)
        Training(single, Width(1, 1)).run()
        most = max(_TOLERANCE, _FACTOR * rounding(single, arguments.epochs))
        for seed, name in enumerate(arguments.widths, start=arguments.seed):
            if "to" in name:
                right &= between_widths(name, single, arguments.epochs, seed, most)
            else:
                right &= at_width(name, single, arguments.epochs, arguments.kills, seed, most)
        sys.exit(not right)
    finally:
        for agent in Training.started:
            agent.terminate()
            agent.wait()
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
