"""What a training step of patches of volumes holds in memory, beside what `segops init` estimates.

    python -m benchmarks.patch_memory [--threads 1] [--precision fp32]

Trains a `unet_3d`, as `segops init` plans it, for an epoch of drawn volumes with batches of two, in a process for each
patch. Prints the estimate, the peak of resident memory above that of a training with the smallest patch, and their
ratio.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from segops.files import MIB

BATCH = 2
PATCHES = ((16, 32, 32), (24, 48, 48), (32, 64, 64), (40, 80, 80))
SPACING_MM = (3.0, 1.0, 1.0)


def main() -> None:
    """Prepare the volumes once, and measure each patch in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(peak_mib(arguments.folder, candidate(arguments.run, arguments.precision), arguments.threads))
        return
    from segops.data.sources.organs import Organs
    from tests.support.tiny_volumes import prepared_volumes

    with tempfile.TemporaryDirectory() as folder:
        prepared_volumes(Path(folder), Organs(n=8, size=88, depth=44, seed=3))
        print("| patch | estimate, MiB | peak above the smallest, MiB | of the estimate above the smallest's |")
        print("|---|---|---|---|")
        base = 0.0
        for size in PATCHES:
            text = "x".join(map(str, size))
            options = ["--run", text, "--folder", folder, "--threads", str(arguments.threads)]
            command = [sys.executable, "-m", "benchmarks.patch_memory", *options, "--precision", arguments.precision]
            peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
            estimate = BATCH * estimated_mib(text)
            if size == PATCHES[0]:
                base, first = peak, estimate
                print(f"| {text} | {estimate:.0f} | 0 | |", flush=True)
                continue
            above = peak - base
            print(f"| {text} | {estimate:.0f} | {above:.0f} | {above / (estimate - first):.2f} |", flush=True)


def candidate(size: str, precision: str) -> Any:
    """Return the params of a candidate for patches of that size."""
    from segops.params.candidate import CandidateParams

    given = {"size": [int(side) for side in size.split("x")], "spacing_mm": SPACING_MM, "resize": "none", "channels": 1}
    recipe = {"epochs": 1, "batch_size": BATCH, "patches_per_image": 1, "precision": precision}
    model = {"architecture": "unet_3d", "base_filters": 16, "depth": 2}
    clip = {"clip": {"percentiles": [0.5, 99.5]}}
    return CandidateParams.model_validate({"model": model, "input": {**given, **clip}, "recipe": recipe})


def estimated_mib(size: str) -> float:
    """Return what `segops init` says that a patch takes."""
    import torch

    from segops.models.catalogue import build_network
    from segops.planning.cost import cost_of

    params = candidate(size, "fp32")
    with torch.device("meta"):
        network = build_network(params, 3)
    return cost_of(network, 1, params.input.size)[1]


def peak_mib(folder: Path, params: Any, threads: int) -> float:
    """Train, and return the largest resident memory of this process."""
    from segops.params.runtime import RuntimeParams
    from segops.params.tracking import TrackingParams
    from segops.stages.train import train

    with tempfile.TemporaryDirectory() as own:
        os.environ["DVC_ROOT"] = own
        runtime = RuntimeParams(threads=threads, device="cpu")
        train("net", params, runtime, TrackingParams(), prepared=folder / "prepared", model=Path(own) / "model")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


if __name__ == "__main__":
    main()
