"""Sets our candidates beside other packages' methods on DSB2018, the same CPU-minutes of training each.

    python -m benchmarks.anchors --out FOLDER [--minutes 30] [--seeds 0 1 2] [--methods ours monai_unet ...]
        [--python OTHER/bin/python] [--weights lite0.safetensors] [--table]

Another package's method runs by `--python`, an environment with monai, segmentation_models_pytorch or nnunetv2, and is
skipped where that isn't there; `--weights` are those of docs/reference/models.md. CPU-minutes are process time of
training with its validation, one thread; how many epochs fit is timed first. Each method's masks and figures stay in
`FOLDER/METHOD-SEED`, and what is there isn't run again; `--table` only prints. Several such commands may run at once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from benchmarks.anchors import candidates, scores
from benchmarks.anchors.foreign import FIGURES
from segops.contracts.scores import Interval
from segops.data.arrays import PreparedData

ROOT = Path(__file__).parents[2]


class Foreign(NamedTuple):
    """A method of another package: its module here, the package, and arguments of its own."""

    module: str
    package: str
    arguments: tuple[str, ...] = ()


FOREIGN = {
    "monai_unet": Foreign("monai_unet", "monai"),
    "smp_unet": Foreign("smp_unet", "segmentation_models_pytorch"),
    "smp_unet_128": Foreign("smp_unet", "segmentation_models_pytorch", ("--size", "128", "--batch", "8")),
    "nnunet": Foreign("nnunet", "nnunetv2"),
    "nnunet_1gb": Foreign("nnunet", "nnunetv2", ("--memory", "1")),
}
OURS = ("ours", "ours_small", "lite_pretrained", "lite_frozen", "lite_scratch", "otsu")


def main() -> None:
    """Run what isn't there yet, and print the table."""
    arguments = parse()
    out: Path = arguments.out.resolve()
    candidates.prepare(out)
    data = PreparedData.open(out / "data/prepared")
    scores.write_pixels(data, out / "pixels")
    if not arguments.table:
        for seed in arguments.seeds:
            for name in arguments.methods:
                if name not in candidates.UNTRAINED or seed == arguments.seeds[0]:
                    run(name, seed, arguments, out)
    print_table(data, out)


def run(name: str, seed: int, arguments: argparse.Namespace, out: Path) -> None:
    """Run a method unless its figures are there; say why where it can't."""
    folder = out / f"{name}-{seed}"
    if (folder / FIGURES).exists():
        return
    if reason := missing(name, arguments):
        print(f"{name}: skipped, {reason}", flush=True)
        return
    folder.mkdir(exist_ok=True)
    if name in OURS:
        weights = arguments.weights if name in candidates.FROZEN else None
        candidates.Candidate(name, folder, seed).run(arguments.minutes, weights)
        return
    method = FOREIGN[name]
    command = [arguments.python, "-m", f"benchmarks.anchors.{method.module}", "--pixels", str(out / "pixels")]
    command += ["--out", str(folder), "--minutes", str(arguments.minutes), "--seed", str(seed), *method.arguments]
    with (folder / "log.txt").open("w") as log:
        subprocess.run(command, cwd=ROOT, check=True, stdout=log, stderr=log)


def missing(name: str, arguments: argparse.Namespace) -> str | None:
    """Return what a method lacks."""
    if name in candidates.FROZEN and (arguments.weights is None or not arguments.weights.is_file()):
        return "--weights names no file"
    if name in OURS:
        return None
    package = FOREIGN[name].package
    found = arguments.python and subprocess.run(
        [arguments.python, "-c", f"from importlib.util import find_spec; exit(not find_spec('{package}'))"], check=False
    )
    return None if found and not found.returncode else f"--python has no {package}"


def print_table(data: PreparedData, out: Path) -> None:
    """Print a row for each method that is finished, and what ours leads it by."""
    tables, notes = {}, {}
    for name in (*OURS, *FOREIGN):
        folders = [path for path in sorted(out.glob(f"{name}-*")) if (path / FIGURES).exists()]
        if folders:
            tables[name] = scores.mean_over_seeds([scores.read_table(data, path, name) for path in folders])
            notes[name] = [json.loads((path / FIGURES).read_text()) for path in folders]
    if "ours" not in tables:
        print("no figures of ours yet")
        return
    print("| method | seeds | CPU-minutes | epochs | steps | validation Dice | test Dice | ours - it, test |")
    print("|---|---|---|---|---|---|---|---|")
    for name, table in tables.items():
        judged = scores.compare(tables["ours"], table)
        figures = notes[name]
        minutes = ", ".join(f"{each['minutes']['train']:.1f}" for each in figures)
        cells = [name, str(len(figures)), minutes]
        cells += [", ".join(str(each.get(count, "")) for each in figures) for count in ("epochs", "steps")]
        cells += [shown(judged.dice["val"]), shown(judged.dice["test"])]
        print(f"| {' | '.join([*cells, '' if name == 'ours' else shown(judged.lead['test'], signed=True)])} |")
    print("\n" + "\n".join(f"{name}: {figures[0]['versions']}" for name, figures in notes.items()))


def shown(interval: Interval, *, signed: bool = False) -> str:
    """Write a mean with its interval."""
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.3f} (1 group)"
    sign = "+" if signed else ""
    return f"{interval.mean:{sign}.3f} ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", choices=[*OURS, *FOREIGN], default=[*OURS, *FOREIGN])
    parser.add_argument("--python", help="of the environment with the other packages")
    parser.add_argument("--weights", type=Path, help="lite0.safetensors")
    parser.add_argument("--table", action="store_true", help="run nothing, print the table")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "GX_ANALYTICS_ENABLED": "false"}
    main()
