"""Peak memory and CPU time of `ingest`, `validate` (its look at pixels) and `prepare` for n, 10 n and 100 n images.

    python benchmarks/prepare_memory.py [n] [size_px] [depth]

Each stage runs in a process of its own. Prints resident memory in MiB above what the imports take, CPU seconds, and how
both grow: exponent 1 is in step with the images, 0 is flat. With a depth the images are volumes.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FACTORS = (1, 10, 100)
STAGES = ("ingest", "validate", "prepare")


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def warm_up(folder: Path) -> None:
    """Run both stages on a few images, so that libraries are loaded before the baseline is taken."""
    from tests.support.factories import tiny_prepared

    tiny_prepared(folder, n=16)


def measure(stage: str, folder: Path) -> None:
    """Run one stage on what stands in `folder` and print its peak and the baseline, MiB, and its CPU seconds."""
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
    print(f"{peak_mib():.1f} {base:.1f} {time.process_time() - began:.2f}")


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


def compare(n: int, size_px: int, depth: int) -> None:
    """Print a line a stage and count, then the exponents between neighbouring counts."""
    from tests.support.factories import tiny_split

    found: dict[str, list[tuple[float, float]]] = {stage: [] for stage in STAGES}
    images = f"volumes {depth} x {size_px} x {size_px}" if depth else f"images {size_px} x {size_px} px, 8 bit grey"
    print(f"{images}\nstage     images  peak MiB  above imports MiB  CPU s")
    for factor in FACTORS:
        with tempfile.TemporaryDirectory() as folder:
            write_raw(Path(folder), n * factor, size_px, depth)
            for stage, measured in found.items():
                if stage == "prepare":
                    tiny_split(Path(folder) / "dataset", Path(folder) / "split")
                command = [sys.executable, "-m", "benchmarks.prepare_memory", stage, folder]
                result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
                peak, base, cpu_s = map(float, result.stdout.split())
                measured.append((peak, cpu_s))
                print(f"{stage:8} {n * factor:7} {peak:9.1f} {peak - base:18.1f} {cpu_s:6.1f}", flush=True)
    for stage, measured in found.items():
        for kind, values in zip(("memory", "CPU time"), zip(*measured, strict=True), strict=True):
            pairs = zip(values, values[1:], FACTORS, FACTORS[1:], strict=False)
            exponents = [math.log(more / few) / math.log(after / before) for few, more, before, after in pairs]
            print(f"{stage}: {kind} grows by the power {' then '.join(f'{exponent:.2f}' for exponent in exponents)}")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in STAGES:
        measure(sys.argv[1], Path(sys.argv[2]))
    else:
        sys.path.insert(0, str(ROOT))
        given = [int(text) for text in sys.argv[1:]]
        compare(*[*given, *(100, 256, 0)[len(given) :]])
