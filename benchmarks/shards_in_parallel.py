"""Measure ingest, validate and prepare with 1 and 2 processes.

python -m benchmarks.shards_in_parallel [--images 400] [--size 128] [--repeat 3]

Each stage runs in a process of its own on one drawn archive. CPU seconds count its workers too; memory is the peak of
its largest process. Seconds are compared in pairs that follow each other. `benchmarks.prepare_memory` shows how the
stages grow with the images.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from segops.data.sources.synthetic import parse, write_archive

STAGES = ("ingest", "validate", "prepare")
_WORK = """
import sys
from pathlib import Path
from segops.params.ingest import IngestParams
from segops.params.split import SplitParams
from segops.params.validate import ValidateParams

if __name__ == "__main__":
    stage, root, shard_mib, workers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    dataset, report, split = root / "dataset", root / "report", root / "split"
    if stage == "ingest":
        from segops.stages.ingest import ingest
        params = IngestParams(
            source=str(root / "source.tar"), name="nuclei", licence="CC0-1.0", layout="pairs", images="images",
            masks="masks", mask_values={"0": "background", "255": "nucleus"}, shard_mib=shard_mib,
        )
        ingest(params, dataset=dataset, workers=workers)
    elif stage == "validate":
        from segops.stages.validate import validate
        validate(ValidateParams(), dataset=dataset, report=report, workers=workers)
    elif stage == "split":
        from segops.stages.split import split as stage
        stage(SplitParams(), dataset=dataset, report=report, split=split)
    else:
        from segops.stages.prepare import prepare
        prepare(dataset=dataset, split=split, prepared=root / "prepared", workers=workers)
"""


class Cost(NamedTuple):
    """What a stage took."""

    seconds: float
    cpu_s: float
    peak_mib: float


def run(stage: str, root: Path, shard_mib: int, workers: int) -> Cost:
    """Run a stage in a process of its own."""
    script, began = root / "work.py", time.perf_counter()
    script.write_text(_WORK)
    words = [sys.executable, str(script), stage, str(root), str(shard_mib), str(workers)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{stage} ended with {process.returncode}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def draw(root: Path, images: int, size: int) -> None:
    """Draw a source of nuclei."""
    root.mkdir()
    write_archive(root / "source.tar", parse(f"synthetic://nuclei?n={images}&size={size}&seed=1"))


def shared(root: Path, images: int, size: int, repeat: int) -> None:
    """Print the ratio of the seconds of two processes to those of one, in pairs."""
    draw(root / "shared", images, size)
    print("| stage | seconds of 2 to 1 | CPU s of 1 | of 2 | peak MiB of 1 | of 2 |\n|---|---:|---:|---:|---:|---:|")
    for stage in STAGES:
        pairs = [[run(stage, root / "shared", 1, workers) for workers in (1, 2)] for _ in range(repeat)]
        ratio = median(two.seconds / single.seconds for single, two in pairs)
        costs = [[median(pair[number][of] for pair in pairs) for number in range(2)] for of in (1, 2)]
        cells = [f"{cost:.1f}" for cost in costs[0]] + [f"{cost:.0f}" for cost in costs[1]]
        print(f"| {stage} | {ratio:.2f} | {' | '.join(cells)} |", flush=True)
        if stage == "validate":
            run("split", root / "shared", 1, 1)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        shared(Path(name), given.images, given.size, given.repeat)


if __name__ == "__main__":
    main()
