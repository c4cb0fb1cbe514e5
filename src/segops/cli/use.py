"""Defines the commands beside the graph: use a model, look at things, clear away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segops.cli.common import (
    AUDIT,
    AUGMENT,
    DATASET,
    DRIFT,
    MODELS,
    PARAMS,
    PREPARED,
    SPLIT,
    SUSPECTS,
    Candidate,
    ParamsFile,
    load,
    wrote,
)
from segops.errors import UserError

app = typer.Typer()
Model = Annotated[str, typer.Option("--model", help="An alias, a version, or a folder with model.json.")]


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
    from segops.commands.augment_preview import augment_preview as stage

    knobs, file = load(params), page or AUGMENT / f"{candidate}.html"
    chosen = knobs.candidate(candidate)
    count = stage(candidate, chosen, knobs.runtime, prepared=prepared, page=file, images=images, versions=versions)
    wrote(file, f"{count} training images, {versions} versions each")


@app.command()
def audit(
    params: ParamsFile = PARAMS,
    split: Annotated[
        Path | None,
        typer.Option("--split", help="A CSV or parquet table of image_id and subset; else the split's own."),
    ] = None,
    worth: Annotated[
        str | None,
        typer.Option("--worth", metavar="CANDIDATE", help="Train it with and without leaks: how much Dice is that?"),
    ] = None,
    dataset: Path = DATASET,
    report: Path = AUDIT,
) -> None:
    """List test images that have a relative in training, by kind. Exit code 6: there are some."""
    from segops.commands.audit import LEAKS, summary
    from segops.commands.audit import audit as stage
    from segops.contracts.tables import SPLIT_FILE

    measured = (worth, load(params)) if worth else None
    result = stage(dataset=dataset, split=split or SPLIT / SPLIT_FILE, report=report, worth=measured)
    wrote(report, summary(result))
    if result.leaking_images:
        raise typer.Exit(LEAKS)


@app.command()
def suspects(
    candidate: Candidate,
    params: ParamsFile = PARAMS,
    tolerance: Annotated[
        int, typer.Option("--tolerance", min=0, max=50, metavar="PX", help="How far a border may lie beside.")
    ] = 2,
    dataset: Path = DATASET,
    prepared: Path = PREPARED,
    model: Path | None = None,
    report: Path | None = None,
) -> None:
    """Rank labels that disagree with predictions out of fold, for QuPath, napari and CVAT to mend."""
    from segops.commands.suspects import suspects as stage

    knobs, folder = load(params), report or SUSPECTS / candidate
    knobs.candidate(candidate)
    result = stage(
        knobs.runtime,
        dataset=dataset,
        prepared=prepared,
        model=model or MODELS / candidate,
        report=folder,
        tolerance_px=tolerance,
    )
    wrote(folder, f"{result.suspect_images} of {result.images} images have a suspect label, {result.regions} regions")


@app.command()
def predict(
    inputs: Annotated[list[Path], typer.Argument(help="Images or folders, then the output folder.")],
    params: ParamsFile = PARAMS,
    model: Model = "champion",
    overlays: Annotated[bool, typer.Option("--overlays", help="Also write the outline over the image.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Also write predictions.csv, one row per image.")] = False,
    bits: Annotated[
        int | None,
        typer.Option("--bits", min=8, max=16, help="That 16-bit samples use, for a model that has seen 8-bit ones."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option("--backend", help="What runs the network: auto, torch, openvino-int8, .. as measured by export."),
    ] = "torch",
    exported: Annotated[
        Path | None, typer.Option("--exported", help="The folder of `segops export`; else what the version keeps.")
    ] = None,
) -> None:
    """Write masks for images of any supported format and size: segops predict [--model M] IN... OUT."""
    from segops.commands.predict import PredictRequest
    from segops.commands.predict import predict as stage

    if len(inputs) < 2:
        raise UserError("segops predict takes at least one input and the output folder: segops predict IN... OUT")
    knobs = load(params)
    written = stage(
        PredictRequest(
            model, knobs.runtime, knobs.tracking, inputs[:-1], inputs[-1], overlays, bits, backend, exported
        ),
        table=table,
    )
    wrote(inputs[-1], f"{len(written)} files")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="The folder for the files; replaced as a whole.")],
    params: ParamsFile = PARAMS,
    model: Model = "champion",
    prepared: Path = PREPARED,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="onnx, int8, openvino, openvino_int8, tensorrt; all without it."),
    ] = None,
) -> None:
    """Write a model for other runtimes, each file checked against torch on validation images."""
    from segops.cli.printing import print_export
    from segops.commands.export import export as stage

    knobs = load(params)
    result = stage(model, formats or [], knobs.export, knobs.runtime, knobs.tracking, prepared=prepared, out=out)
    print_export(result)
    wrote(out, f"{len(result.formats) - 1} formats of {result.candidate}, judged on {result.images} validation images")


@app.command()
def drift(
    images: Annotated[Path, typer.Argument(help="A folder of new images.")],
    params: ParamsFile = PARAMS,
    model: Model = "champion",
    report: Path = DRIFT,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="The folder with reference.json; of a version its own.")
    ] = None,
) -> None:
    """Compare new images with those the model was made for. Exit code 4: they drift."""
    from segops.cli.printing import print_drift
    from segops.commands.drift import DRIFTED
    from segops.commands.drift import drift as stage

    knobs = load(params)
    result = stage(model, knobs.drift, knobs.runtime, knobs.tracking, images=images, report=report, reference=reference)
    print_drift(result)
    wrote(report, f"drift of {', '.join(result.drifted)}" if result.drifted else f"no drift in {result.images} images")
    if result.drifted:
        raise typer.Exit(DRIFTED)


@app.command()
def clean(params: ParamsFile = PARAMS) -> None:
    """Remove checkpoints and derived arrays that no present model refers to, and what was fetched."""
    from segops.commands.clean import clean as stage

    for folder in stage(load(params).runtime, models=MODELS):
        typer.echo(f"removed {folder}")
