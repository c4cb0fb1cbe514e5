"""Kill a training at random moments and compare its weights with an uninterrupted run's.

    python benchmarks/kill_resume.py CANDIDATE [--kills 3] [--seed 0]

Needs `data/prepared` (run `dvc repro prepare` first). Exit code 1 when the weights differ.
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
from pathlib import Path

from segops.files import sha256_file


def train(candidate: str, root: Path) -> subprocess.Popen[bytes]:
    """Start `segops train` with its checkpoints, caches and MLflow store under `root`."""
    program = "import sys; from segops.cli.main import main; sys.argv = ['segops', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", program, "train", candidate, "--model", str(root / "model")]
    environment = {**os.environ, "DVC_ROOT": str(root)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(candidate: str, root: Path) -> str:
    """Run a training to its end; returns the weights' hash."""
    if train(candidate, root).wait() != 0:
        sys.exit(f"segops train {candidate} failed; run it by hand to see why")
    return sha256_file(root / "model" / "weights.safetensors")


def main() -> None:
    """Train once without and once with kills, and print both hashes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidate")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp())
    try:
        began = time.monotonic()
        expected = finish(arguments.candidate, scratch / "whole")
        whole_s = time.monotonic() - began
        print(f"uninterrupted  {expected}  {whole_s:.0f} s", flush=True)
        moments = random.Random(arguments.seed)
        for _ in range(arguments.kills):
            process = train(arguments.candidate, scratch / "killed")
            after_s = moments.uniform(0.12, 0.3) * whole_s  # three of them fit into a run
            time.sleep(after_s)
            alive = process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            if not alive:
                sys.exit("the training ended before the kill; take more epochs or fewer kills")
            saved = any((scratch / "killed").glob("**/state.safetensors"))
            print(f"SIGKILL after {after_s:.0f} s, a checkpoint is {'' if saved else 'not yet '}there", flush=True)
        found = finish(arguments.candidate, scratch / "killed")
        print(f"killed {arguments.kills} times {found}  {'equal' if found == expected else 'DIFFERENT'}")
        sys.exit(found != expected)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
