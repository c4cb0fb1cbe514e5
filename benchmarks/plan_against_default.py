"""Compare the plan of `segops init` with the default recipe: validation Dice at an equal, short budget of arithmetic.

    python -m benchmarks.plan_against_default [--minutes 0.5] [--threads 1] [--count 40] [--size 96] [SET ...]

A set is one that the tests draw, or the path of a source. Both trainings see the same dataset and split, which are the
plan's; the default recipe is `candidates.resunet` of params.yaml, with the images' channels and, where values are in
units of their own, the percentiles that it can't do without. Its epochs are those that the plan's budget holds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from segops.commands.init import InitRequest, init
from segops.data.arrays import PreparedData
from segops.data.images import OWN_UNITS
from segops.params.candidate import CandidateParams
from segops.params.project import Params, load_params
from segops.planning.cost import GFLOPS_A_THREAD, TRAIN_COST, cost_of_a_megapixel
from segops.planning.decisions import Budget
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.split import split
from segops.stages.train import train
from segops.stages.validate import validate
from tests.support.public_sets import SETS, write_set

_DEFAULT = Path(__file__).parents[1] / "params.yaml"


def main() -> None:
    """Print a line for each set."""
    arguments = _parse()
    print("| set | images | plan: input, epochs | validation Dice | default: input, epochs | validation Dice | s |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as home, contextlib.chdir(home):  # with a store of MLflow for all sets
        for name in arguments.sets or SETS:
            with tempfile.TemporaryDirectory(dir=home) as folder:
                print(_row(name, Path(folder), arguments), flush=True)


def _row(name: str, folder: Path, arguments: argparse.Namespace) -> str:
    """Run a set; return its row of the table."""
    source = write_set(name, folder / "raw", arguments.count, arguments.size) if name in SETS else name
    budget = Budget(arguments.minutes, 4, arguments.threads, GFLOPS_A_THREAD * arguments.threads)
    with contextlib.redirect_stdout(sys.stderr):
        init(InitRequest(source, folder / "params.yaml", budget))
        params = load_params(folder / "params.yaml")
        data = _prepared(params, folder)
        plan = params.candidates["resunet"]
        default = _default(plan, data, budget)
        candidates = {"plan": plan, "default": default}
        trained = {label: _trained(label, candidate, params, folder) for label, candidate in candidates.items()}
    cells = [Path(name).name, str(data.meta.images)]
    for label, candidate in candidates.items():
        size, recipe = candidate.input.size, candidate.recipe
        cells += [f"{candidate.input.resize} {size[0]}x{size[1]}, {recipe.epochs}", f"{trained[label][0]:.4f}"]
    return f"| {' | '.join([*cells, ' and '.join(f'{seconds:.0f}' for _, seconds in trained.values())])} |"


def _prepared(params: Params, folder: Path) -> PreparedData:
    """Ingest, validate, split and prepare, as the plan says."""
    ingest(params.ingest, dataset=folder / "dataset")
    validate(params.validate_, dataset=folder / "dataset", report=folder / "validation")
    split(params.split, dataset=folder / "dataset", report=folder / "validation", split=folder / "split")
    prepare(dataset=folder / "dataset", split=folder / "split", prepared=folder / "prepared")
    return PreparedData.open(folder / "prepared")


def _default(plan: CandidateParams, data: PreparedData, budget: Budget) -> CandidateParams:
    """The default recipe with as many epochs as its half of the budget holds."""
    candidate = load_params(_DEFAULT).candidates["resunet"]
    changes: dict[str, Any] = {"channels": 3 if plan.input.channels in (1, 3) else plan.input.channels}
    if data.index["dtype"].isin(OWN_UNITS).any():
        changes["clip"] = {"percentiles": [0.5, 99.5]}
    seen = candidate.input.model_copy(update=changes)
    model = json.dumps(candidate.model.model_dump(mode="json"))
    gflops = cost_of_a_megapixel(model, seen.channels, len(data.meta.classes))[0] * seen.size[0] * seen.size[1] / 1e6
    images = TRAIN_COST * len(data.rows("train")) + len(data.rows("val"))
    epochs = max(1, int(budget.minutes * 60 * budget.gflops_a_second / 2 / (gflops * images)))
    recipe = candidate.recipe.model_copy(update={"epochs": epochs})
    return candidate.model_copy(update={"input": seen, "recipe": recipe})


def _trained(name: str, candidate: CandidateParams, params: Params, folder: Path) -> tuple[float, float]:
    """Train a candidate; return its validation Dice, and the seconds of its epochs."""
    home = folder / "models" / name
    model = train(name, candidate, params.runtime, params.tracking, prepared=folder / "prepared", model=home)
    patches = candidate.recipe.patches_per_image if candidate.input.resize == "none" else 1
    samples = model.epochs * model.train_images * patches
    return model.val_dice, samples / json.loads((home / "run.json").read_text())["images_per_second"]


def _parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--size", type=int, default=96)
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    main()
