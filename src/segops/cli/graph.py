"""Defines the graph's stages as commands: each parses, calls a stage and prints what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segops.cli.common import (
    CODE,
    COMPARISON,
    DATASET,
    FAULTS,
    MODELS,
    PARAMS,
    PREPARED,
    REPORTS,
    SPLIT,
    TUNED,
    TUNING,
    VALIDATION,
    Candidate,
    ParamsFile,
    load,
    wrote,
)
from segops.errors import UserError

if TYPE_CHECKING:
    from segops.contracts.dataset import Growth

app = typer.Typer()


@app.command()
def code(folder: Path = CODE) -> None:
    """Write what DVC compares of each stage's code: the files it depends on, without comments and docstrings."""
    from segops.commands.code import stage_names, write_code_hashes

    write_code_hashes(folder)
    wrote(folder, f"the code of {len(stage_names())} stages")


@app.command()
def ingest(params: ParamsFile = PARAMS, dataset: Path = DATASET) -> None:
    """Read the source and write the dataset: manifest, shards, facts."""
    from segops.cli.printing import dataset_summary
    from segops.stages.ingest import ingest as stage

    knobs = load(params)
    knobs.check_own_data()
    result = stage(knobs.ingest, dataset=dataset, faults=FAULTS, workers=knobs.runtime.workers)
    wrote(dataset, dataset_summary(result, knobs.ingest))
    if result.growth is not None:
        _say_growth(result.growth)


def _say_growth(growth: Growth) -> None:
    """Print how many groups and bytes a new version of a dataset keeps and adds."""
    from segops.files import MIB

    removed = f", {growth.groups_removed} removed" if growth.groups_removed else ""
    typer.echo(
        f"  of the base {growth.groups_kept} groups kept with their shards ({growth.bytes_kept / MIB:.1f} MiB), "
        f"{growth.groups_changed} changed and {growth.groups_new} new ({growth.bytes_written / MIB:.1f} MiB){removed}"
    )
    for name, joined in growth.bridged_groups.items():
        typer.echo(f"  groups {', '.join(joined)} turn out to be one field and are now '{name}'", err=True)


@app.command()
def validate(params: ParamsFile = PARAMS, dataset: Path = DATASET, report: Path = VALIDATION) -> None:
    """Check the dataset; a critical failure stops the graph."""
    from segops.progress import counted
    from segops.stages.validate import validate as stage

    knobs = load(params)
    result = stage(knobs.validate_, dataset=dataset, report=report, workers=knobs.runtime.workers)
    warnings = sum(not expectation.success for expectation in result.expectations)
    wrote(report, f"{counted(len(result.expectations), 'expectation')}, {counted(warnings, 'warning')}")


@app.command()
def split(params: ParamsFile = PARAMS, dataset: Path = DATASET, report: Path = VALIDATION, split: Path = SPLIT) -> None:
    """Decide who is never seen in training."""
    from segops.progress import counted
    from segops.stages.split import split as stage

    result = stage(load(params).split, dataset=dataset, report=report, split=split)
    counts = ", ".join(f"{name} {part.images}" for name, part in result.subsets.items())
    wrote(split, f"{result.protocol}: {counts}; {counted(result.groups_on_two_sides, 'group')} on two sides")


@app.command()
def prepare(
    params: ParamsFile = PARAMS, dataset: Path = DATASET, split: Path = SPLIT, prepared: Path = PREPARED
) -> None:
    """Decode every image once, into memory-mapped arrays of native size."""
    from segops.stages.prepare import prepare as stage

    workers = load(params).runtime.workers
    result = stage(dataset=dataset, split=split, prepared=prepared, workers=workers)
    wrote(prepared, f"{result.images} images")


@app.command()
def tune(
    params: ParamsFile = PARAMS,
    prepared: Path = PREPARED,
    tuned: Path = TUNED,
    report: Path = TUNING,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="CANDIDATE", help="Remove its study and trials; search nothing.")
    ] = None,
) -> None:
    """Search for the hyperparameters that validation prefers; a killed search resumes."""
    from segops.stages import tune as stage

    knobs = load(params)
    if remove is not None:
        removed = stage.remove(remove, knobs.tune, knobs.candidates, knobs.runtime, prepared=prepared)
        typer.echo(f"removed study {removed}")
        return
    result = stage.tune(
        knobs.tune, knobs.candidates, knobs.runtime, knobs.tracking, prepared=prepared, tuned=tuned, report=report
    )
    for name, best in result.candidates.items():
        wrote(tuned, f"{name}: {stage.summary(best)}")


@app.command()
def train(
    candidate: Candidate,
    params: ParamsFile = PARAMS,
    prepared: Path = PREPARED,
    tuned: Path = TUNED,
    model: Path | None = None,
) -> None:
    """Train a candidate; a killed run resumes where it stopped, bit for bit."""
    from segops.stages.train import take_part
    from segops.stages.train import train as stage
    from segops.training.torchrun import is_first

    knobs, folder = load(params), model or MODELS / candidate
    settings = candidate, knobs.candidate(candidate), knobs.runtime, knobs.tracking
    searched = tuned if candidate in knobs.tune.searches else None
    if not is_first():
        take_part(*settings, prepared=prepared, tuned=searched)
        return
    result = stage(*settings, prepared=prepared, tuned=searched, model=folder)
    trained = f"epoch {result.best_epoch}" if result.epochs else "nothing to train"
    wrote(folder, f"validation Dice {result.val_dice:.4f} with {result.shown_rule}, {trained}")


@app.command()
def evaluate(
    candidate: Candidate,
    params: ParamsFile = PARAMS,
    prepared: Path = PREPARED,
    model: Path | None = None,
    report: Path | None = None,
) -> None:
    """Score a candidate on validation and test at native size."""
    from segops.stages.evaluate import evaluate as stage

    knobs, folder = load(params), report or REPORTS / candidate
    result = stage(knobs.evaluate, knobs.runtime, prepared=prepared, model=model or MODELS / candidate, report=folder)
    wrote(folder, f"test Dice {result.test.dice.words(4)}")


@app.command()
def register(
    candidate: Annotated[str | None, typer.Argument(help="A name under `candidates:`.")] = None,
    params: ParamsFile = PARAMS,
    model: Path | None = None,
    report: Path | None = None,
    missing: Annotated[bool, typer.Option("--missing", help="Rebuild what the MLflow store lacks.")] = False,
) -> None:
    """Register a candidate's model in MLflow, or rebuild what the store lacks."""
    from segops.commands.rebuild import register_missing
    from segops.stages.register import register as stage

    knobs = load(params)
    if missing == (candidate is not None):
        raise UserError("segops register takes either a candidate's name or --missing")
    if candidate is None:
        rebuilt = register_missing(
            knobs.register_, knobs.tracking, knobs.compare, list(knobs.candidates),
            models=MODELS, reports=REPORTS, comparison=COMPARISON,
        )  # fmt: skip
        typer.echo(f"rebuilt in MLflow: {', '.join(rebuilt) or 'nothing was missing'}")
        return
    knobs.candidate(candidate)
    folder = report or REPORTS / candidate
    result = stage(knobs.register_, knobs.tracking, model=model or MODELS / candidate, report=folder)
    wrote(
        folder,
        f"{result.model_name} version {result.version}" if result.registered else f"not registered: {result.reason}",
    )


@app.command()
def compare(
    params: ParamsFile = PARAMS, reports: Path = REPORTS, models: Path = MODELS, comparison: Path = COMPARISON
) -> None:
    """Rank the candidates on validation and say whether the lead is real."""
    from segops.cli.printing import print_leaderboard
    from segops.stages.compare import compare as stage

    knobs = load(params)
    result = stage(
        knobs.compare, knobs.tracking, list(knobs.candidates), reports=reports, models=models, comparison=comparison
    )
    print_leaderboard(result)
    wrote(comparison, f"challenger {result.challenger or 'none'}")
