"""Peak memory and CPU time of `ingest`, `validate` (its look at pixels) and `prepare` for n, 10 n and 100 n images.

    python -m benchmarks.prepare_memory [--count 100] [--size 256] [--depth 0] [--rounds 1]

Each stage runs in a process of its own. Memory is a process's largest resident memory, with MiB above what the imports
take beside it; both are set beside those of n images. With a depth the images are volumes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.ratios import Ratio, quotients, table

ROOT = Path(__file__).resolve().parents[1]
FACTORS = (1, 10, 100)
STAGES = ("ingest", "validate", "prepare")


class Used(NamedTuple):
    """What a stage used: its largest resident memory, how much of it came after the imports, and CPU seconds."""

    peak_mib: float
    above_mib: float
    cpu_s: float


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def warm_up(folder: Path) -> None:
    """Run both stages on a few images, so that libraries are loaded before the baseline is taken."""
    from tests.support.factories import tiny_prepared

    tiny_prepared(folder, n=16)


def measure(stage: str, folder: Path) -> None:
    """Run a stage on what stands in `folder` and print a `Used`."""
    from segops.data.manifest import read_manifest
    from segops.params.validate import ValidateParams
    from segops.stages.ingest import ingest
    from segops.stages.prepare import prepare
    from segops.validation.pixels import look
    from tests.support.factories import ingest_params

    with tempfile.TemporaryDirectory() as small:
        warm_up(Path(small))
    base, began = peak_mib(), time.process_time()
    if stage == "ingest":
        changes = json.loads((folder / "params.json").read_text())
        ingest(ingest_params(folder / "raw", **changes), dataset=folder / "dataset")
    elif stage == "validate":
        about, manifest = read_manifest(folder / "dataset")
        look(folder / "dataset", manifest, ValidateParams(), len(about.classes), about.dimensions)
    else:
        prepare(dataset=folder / "dataset", split=folder / "split", prepared=folder / "prepared")
    print(peak_mib(), peak_mib() - base, time.process_time() - began)


def write_raw(folder: Path, count: int, size_px: int, depth: int) -> None:
    """Write pictures, or volumes where there is a depth, with the params to read them."""
    from segops.data.sources.organs import CLASSES, Organs
    from tests.support.factories import make_pairs

    params: dict[str, object] = {}
    if depth:
        for name, content in Organs(n=count, size=size_px, depth=depth).members():
            path = folder / "raw" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        params = {"dimensions": 3, "mask_values": CLASSES, "modality": "MR"}
    else:
        make_pairs(folder / "raw", n=count, size=size_px)
    (folder / "params.json").write_text(json.dumps(params))


def ratios(rounds: int) -> list[Ratio]:
    """Return the rows of small images, as many as fit into a minute a round."""
    return compare(count=20, size_px=64, depth=0, rounds=rounds)


def compare(count: int, size_px: int, depth: int, rounds: int) -> list[Ratio]:
    """Run the stages on n, 10 n and 100 n images, round by round."""
    used: dict[tuple[str, int], list[Used]] = {(stage, factor): [] for stage in STAGES for factor in FACTORS}
    for _ in range(rounds):
        for factor in FACTORS:
            with tempfile.TemporaryDirectory() as name:
                write_raw(Path(name), count * factor, size_px, depth)
                for stage in STAGES:
                    used[stage, factor].append(in_own_process(stage, Path(name)))
    rows = []
    for stage in STAGES:
        for factor in FACTORS[1:]:
            few, many = used[stage, 1], used[stage, factor]
            what, base = f"{stage}, {count * factor:,} {'volumes' if depth else 'images'}", f"those of {count}"
            peak_mib, above_mib, cpu_s = map(median, zip(*many, strict=True))
            few_mib, _, few_s = map(median, zip(*few, strict=True))
            memory = quotients([each.peak_mib for each in many], [each.peak_mib for each in few])
            cpu = quotients([each.cpu_s for each in many], [each.cpu_s for each in few])
            rows.append(
                Ratio(
                    what,
                    "memory",
                    f"{peak_mib:.0f} MiB, {above_mib:.0f} above imports",
                    f"{base}, {few_mib:.0f} MiB",
                    memory,
                )
            )
            rows.append(Ratio(what, "CPU time", f"{cpu_s:.2f} s", f"{base}, {few_s:.2f} s", cpu))
    return rows


def in_own_process(stage: str, folder: Path) -> Used:
    """Run a stage in a process of its own."""
    if stage == "prepare":
        from tests.support.factories import tiny_split

        tiny_split(folder / "dataset", folder / "split")
    command = [sys.executable, "-m", "benchmarks.prepare_memory", "--stage", stage, "--folder", str(folder)]
    result = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Used(*map(float, result.stdout.split()))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("count", 100), ("size", 256), ("depth", 0), ("rounds", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        measure(arguments.stage, arguments.folder)
    else:
        print(table(compare(arguments.count, arguments.size, arguments.depth, arguments.rounds)))


if __name__ == "__main__":
    main()
