"""Peak memory of `ingest` and `prepare` for n and 8 n images: it should stay flat.

    python benchmarks/prepare_memory.py [n] [size_px]

Each stage runs in a process of its own. Prints resident memory in MiB above what the imports take, and the ratio.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FACTOR = 8


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def warm_up(folder: Path) -> None:
    """Run both stages on a few images, so that libraries are loaded before the baseline is taken."""
    from tests.support.factories import tiny_prepared

    tiny_prepared(folder, n=16)


def measure(stage: str, folder: Path) -> None:
    """Run one stage on what stands in `folder` and print its peak and the baseline, MiB."""
    from segops.stages.ingest import ingest
    from segops.stages.prepare import prepare
    from tests.support.factories import ingest_params

    with tempfile.TemporaryDirectory() as small:
        warm_up(Path(small))
    base = peak_mib()
    if stage == "ingest":
        ingest(ingest_params(folder / "raw"), dataset=folder / "dataset")
    else:
        prepare(dataset=folder / "dataset", split=folder / "split", prepared=folder / "prepared")
    print(f"{peak_mib():.1f} {base:.1f}")


def compare(n: int, size_px: int) -> None:
    """Print a line a stage and count, and the ratio of the peaks."""
    from tests.support.factories import make_pairs, tiny_split

    peaks: dict[str, list[float]] = {"ingest": [], "prepare": []}
    print(f"images {size_px} x {size_px} px, 8 bit grey\nstage     images  data MiB  peak MiB  above imports MiB")
    for count in (n, FACTOR * n):
        with tempfile.TemporaryDirectory() as folder:
            make_pairs(Path(folder) / "raw", n=count, size=size_px)
            for stage, found in peaks.items():
                if stage == "prepare":
                    tiny_split(Path(folder) / "dataset", Path(folder) / "split")
                command = [sys.executable, "-m", "benchmarks.prepare_memory", stage, folder]
                result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
                peak, base = map(float, result.stdout.split())
                found.append(peak)
                data_mib = count * size_px**2 * 2 / 2**20
                print(f"{stage:8} {count:7} {data_mib:9.1f} {peak:9.1f} {peak - base:18.1f}")
    for stage, (few, many) in peaks.items():
        print(f"{stage}: {FACTOR} times the images take {many / few:.2f} times the memory")


if __name__ == "__main__":
    if sys.argv[1:2] in (["ingest"], ["prepare"]):
        measure(sys.argv[1], Path(sys.argv[2]))
    else:
        sys.path.insert(0, str(ROOT))
        given = [int(text) for text in sys.argv[1:]]
        compare(*[*given, *(100, 256)[len(given) :]])
