"""What pruning saves: one random search under each pruner, on the data of params.yaml.

    python -m benchmarks.pruning CANDIDATE [--trials 16] [--epochs 6]

Needs `data/prepared` (run `dvc repro prepare` first). A random search draws the same trials whatever is pruned, so the
rows differ by pruning alone. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
from pathlib import Path

from segops.params.project import Params, load_params
from segops.params.tune import SearchParams, TuneParams
from segops.stages.tune import tune

SPACE = {
    "recipe.learning_rate": {"float": [0.0001, 0.03], "log": True},
    "recipe.batch_size": {"categorical": [4, 8, 16]},
}
PRUNERS = ("none", "percentile", "median", "hyperband")


def search(candidate: str, knobs: Params, params: TuneParams, prepared: Path) -> list[dict[str, str]]:
    """The rows of trials.csv of one search whose studies and checkpoints are thrown away."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        os.environ["DVC_ROOT"] = scratch
        tune(
            params, {candidate: knobs.candidates[candidate]}, knobs.runtime, knobs.tracking,
            prepared=prepared, tuned=root / "tuned", report=root / "report",
        )  # fmt: skip
        with (root / "report" / "trials.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def main() -> None:
    """Search with each pruner and print a row of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidate")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    knobs = load_params(Path("params.yaml"))
    one = SearchParams.model_validate({"space": SPACE, "trials": arguments.trials, "epochs": arguments.epochs})
    print("| pruner | trials pruned | epochs run | best validation Dice | its trial |\n|---|---|---|---|---|")
    for pruner in PRUNERS:
        changes = {"searches": {arguments.candidate: one}, "sampler": "random", "pruner": pruner, "confirm_seeds": 0}
        rows = search(
            arguments.candidate, knobs, knobs.tune.model_copy(update=changes), Path("data/prepared").resolve()
        )
        best = max((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["dice"]))
        pruned = sum(row["state"] == "pruned" for row in rows)
        epochs = sum(int(row["epochs"]) for row in rows)
        print(
            f"| {pruner} | {pruned} of {len(rows)} | {epochs} | {float(best['dice']):.4f} | {best['trial']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
