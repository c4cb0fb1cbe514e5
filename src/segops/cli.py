"""The command line: parse, call one stage, print what was written. Heavy imports stand inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segops.cli_errors import run
from segops.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from segops.contracts import Growth
    from segops.params import Params

app = typer.Typer(
    name="segops",
    help="From a raw biomedical image archive to a promoted segmentation model. Not for clinical use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DATASET = Path("data/dataset")
VALIDATION = Path("reports/validation")
SPLIT = Path("data/split")
PREPARED = Path("data/prepared")
TUNED = Path("models/tuned")
TUNING = Path("reports/tuning")
MODELS = Path("models/candidates")
REPORTS = Path("reports/candidates")
COMPARISON = Path("reports/comparison")
AUGMENT = Path("reports/augment")

ParamsFile = Annotated[Path, typer.Option("--params", help="The params file.")]
Candidate = Annotated[str, typer.Argument(help="A name under `candidates:` in params.yaml.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the ledger.")]
PARAMS = Path("params.yaml")


def _load(path: Path) -> Params:
    from segops.params import load_params

    return load_params(path)


def _wrote(folder: Path, summary: str) -> None:
    typer.echo(f"{folder}: {summary}")


@app.command()
def ingest(params: ParamsFile = PARAMS, dataset: Path = DATASET) -> None:
    """Read the source and write the dataset: manifest, shards, facts."""
    from segops.stages.ingest import ingest as stage

    made = stage(_load(params).ingest, dataset=dataset)
    _wrote(dataset, f"{made.images} images in {made.groups} groups, {len(made.shards)} shards")
    if made.growth is not None:
        _say_growth(made.growth)


def _say_growth(growth: Growth) -> None:
    removed = f", {growth.groups_removed} removed" if growth.groups_removed else ""
    typer.echo(
        f"  of the base {growth.groups_kept} groups kept with their shards ({growth.bytes_kept / 2**20:.1f} MiB), "
        f"{growth.groups_changed} changed and {growth.groups_new} new ({growth.bytes_written / 2**20:.1f} MiB){removed}"
    )
    for name, joined in growth.bridged_groups.items():
        typer.echo(f"  groups {', '.join(joined)} turn out to be one field and are now '{name}'", err=True)


@app.command()
def validate(params: ParamsFile = PARAMS, dataset: Path = DATASET, report: Path = VALIDATION) -> None:
    """Check the dataset; a critical failure stops the graph."""
    from segops.stages.validate import validate as stage

    made = stage(_load(params).validate_, dataset=dataset, report=report)
    warnings = sum(not one.success for one in made.expectations)
    _wrote(report, f"{len(made.expectations)} expectations, {warnings} warnings")


@app.command()
def split(params: ParamsFile = PARAMS, dataset: Path = DATASET, report: Path = VALIDATION, split: Path = SPLIT) -> None:
    """Decide who is never seen in training."""
    from segops.stages.split import split as stage

    made = stage(_load(params).split, dataset=dataset, report=report, split=split)
    counts = ", ".join(f"{name} {part.images}" for name, part in made.subsets.items())
    _wrote(split, f"{made.protocol}: {counts}; {made.groups_on_two_sides} groups on two sides")


@app.command()
def prepare(dataset: Path = DATASET, split: Path = SPLIT, prepared: Path = PREPARED) -> None:
    """Decode every image once, into memory-mapped arrays of native size."""
    from segops.stages.prepare import prepare as stage

    made = stage(dataset=dataset, split=split, prepared=prepared)
    _wrote(prepared, f"{made.images} images")


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
    """Search for the hyperparameters that validation prefers; a killed search goes on where it was."""
    from segops.stages import tune as stage

    knobs = _load(params)
    if remove is not None:
        removed = stage.remove(remove, knobs.tune, knobs.candidates, knobs.runtime, prepared=prepared)
        typer.echo(f"removed study {removed}")
        return
    made = stage.tune(
        knobs.tune, knobs.candidates, knobs.runtime, knobs.tracking, prepared=prepared, tuned=tuned, report=report
    )
    for name, result in made.candidates.items():
        _wrote(tuned, f"{name}: {stage.summary(result)}")


@app.command()
def train(
    candidate: Candidate,
    params: ParamsFile = PARAMS,
    prepared: Path = PREPARED,
    tuned: Path = TUNED,
    model: Path | None = None,
) -> None:
    """Train one candidate; a killed run goes on where it stopped, bit for bit."""
    from segops.stages.train import train as stage

    knobs, folder = _load(params), model or MODELS / candidate
    found = knobs.candidate(candidate)
    searched = tuned if candidate in knobs.tune.searches else None
    made = stage(candidate, found, knobs.runtime, knobs.tracking, prepared=prepared, tuned=searched, model=folder)
    _wrote(folder, f"validation Dice {made.val_dice:.4f} with {made.shown_rule}, epoch {made.best_epoch}")


@app.command()
def augment_preview(
    candidate: Candidate,
    params: ParamsFile = PARAMS,
    prepared: Path = PREPARED,
    page: Path | None = None,
    images: Annotated[int, typer.Option("--images", min=1, max=24)] = 3,
    versions: Annotated[int, typer.Option("--versions", min=1, max=24)] = 6,
) -> None:
    """Write a page of what a candidate's augmentation makes of some training images."""
    from segops.stages.augment_preview import augment_preview as stage

    knobs, file = _load(params), page or AUGMENT / f"{candidate}.html"
    one = knobs.candidate(candidate)
    shown = stage(candidate, one, knobs.runtime, prepared=prepared, page=file, images=images, versions=versions)
    _wrote(file, f"{shown} training images, {versions} versions each")


@app.command()
def evaluate(
    candidate: Candidate,
    params: ParamsFile = PARAMS,
    prepared: Path = PREPARED,
    model: Path | None = None,
    report: Path | None = None,
) -> None:
    """Score one candidate on validation and test at native size."""
    from segops.stages.evaluate import evaluate as stage

    knobs, folder = _load(params), report or REPORTS / candidate
    made = stage(knobs.evaluate, knobs.runtime, prepared=prepared, model=model or MODELS / candidate, report=folder)
    dice = made.test.dice
    _wrote(folder, f"test Dice {dice.mean:.4f} [{dice.low:.4f}, {dice.high:.4f}]")


@app.command()
def register(
    candidate: Annotated[str | None, typer.Argument(help="A name under `candidates:`.")] = None,
    params: ParamsFile = PARAMS,
    model: Path | None = None,
    report: Path | None = None,
    missing: Annotated[bool, typer.Option("--missing", help="Rebuild what the MLflow store lacks.")] = False,
) -> None:
    """Register one candidate's model in MLflow, or rebuild what the store lacks."""
    from segops.stages.register import register as stage
    from segops.stages.register import register_missing

    knobs = _load(params)
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
    made = stage(knobs.register_, knobs.tracking, model=model or MODELS / candidate, report=folder)
    _wrote(folder, f"{made.model_name} version {made.version}" if made.registered else f"not registered: {made.reason}")


@app.command()
def compare(
    params: ParamsFile = PARAMS, reports: Path = REPORTS, models: Path = MODELS, comparison: Path = COMPARISON
) -> None:
    """Rank the candidates on validation and say whether the lead is real."""
    from segops.stages.compare import compare as stage
    from segops.stages.compare import print_leaderboard

    knobs = _load(params)
    made = stage(
        knobs.compare, knobs.tracking, list(knobs.candidates), reports=reports, models=models, comparison=comparison
    )
    print_leaderboard(made)
    _wrote(comparison, f"challenger {made.challenger or 'none'}")


@app.command()
def leaderboard(comparison: Path = COMPARISON) -> None:
    """Print the comparison that `compare` wrote, and what to do next."""
    from segops.model_contracts import Comparison
    from segops.stages.compare import print_leaderboard

    made = Comparison.load(comparison)
    print_leaderboard(made)
    version = next((one.version for one in made.standings if one.candidate == made.challenger), None)
    typer.echo(f"\nPages: {comparison}/index.html, {VALIDATION}/report.html, {REPORTS}/*/gallery.html")
    typer.echo("Next:  make ui                        # compare the runs in MLflow")
    if version is not None:
        typer.echo(f"       .venv/bin/segops promote {version}      # make {made.challenger} the champion")


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A version number, or an alias such as `challenger`.")],
    params: ParamsFile = PARAMS,
    yes: Yes = False,
    reason: Reason = None,
) -> None:
    """Make a version the champion, when it passes the gate. Exit code 3: the gate refused."""
    from segops.stages.promote import promote as stage

    knobs = _load(params)
    decision = stage(version, knobs.promote, knobs.tracking, confirm=_confirm(yes), reason=reason)
    typer.echo(f"decision {decision.number}: champion is version {decision.to_version}")


@app.command()
def rollback(params: ParamsFile = PARAMS, yes: Yes = False, reason: Reason = None) -> None:
    """Restore the champion before the present one."""
    from segops.stages.promote import rollback as stage

    decision = stage(_load(params).tracking, confirm=_confirm(yes), reason=reason)
    typer.echo(f"decision {decision.number}: champion is version {decision.to_version}")


@app.command()
def history(params: ParamsFile = PARAMS) -> None:
    """Show every promotion and rollback: who, when, why."""
    from segops.stages.promote import print_history

    print_history(_load(params).tracking)


@app.command()
def predict(
    inputs: Annotated[list[Path], typer.Argument(help="Images or folders, then the output folder.")],
    params: ParamsFile = PARAMS,
    model: Annotated[
        str, typer.Option("--model", help="An alias, a version, or a folder with model.json.")
    ] = "champion",
    overlays: Annotated[bool, typer.Option("--overlays", help="Also write the outline over the image.")] = False,
) -> None:
    """Write masks for images of any supported format and size: segops predict [--model M] IN... OUT."""
    from segops.stages.predict import predict as stage

    if len(inputs) < 2:
        raise UserError("segops predict takes at least one input and the output folder: segops predict IN... OUT")
    knobs = _load(params)
    written = stage(model, knobs.runtime, knobs.tracking, inputs=inputs[:-1], out=inputs[-1], overlays=overlays)
    _wrote(inputs[-1], f"{len(written)} files")


@app.command()
def ui(port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000) -> None:
    """Serve the MLflow UI on the project's own store, on this machine alone."""
    from segops.tracking.store import serve

    serve(port)


@app.command()
def clean(params: ParamsFile = PARAMS) -> None:
    """Remove checkpoints and derived arrays that no present model refers to, and what was fetched."""
    from segops.stages.clean import clean as stage

    for folder in stage(_load(params).runtime, models=MODELS):
        typer.echo(f"removed {folder}")


def _confirm(yes: bool) -> Callable[[str], bool]:
    def ask(question: str) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            raise UserError("promotion asks before it moves the champion; answer in a terminal or pass --yes")
        return typer.confirm(question)

    return ask


def main() -> None:
    """Entry point."""
    run(app)
