"""Beside the graph: use a model, look at things, clear away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segops.cli.common import AUGMENT, MODELS, PARAMS, PREPARED, Candidate, ParamsFile, load, wrote
from segops.errors import UserError

app = typer.Typer()


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

    knobs, file = load(params), page or AUGMENT / f"{candidate}.html"
    one = knobs.candidate(candidate)
    shown = stage(candidate, one, knobs.runtime, prepared=prepared, page=file, images=images, versions=versions)
    wrote(file, f"{shown} training images, {versions} versions each")


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
    knobs = load(params)
    written = stage(model, knobs.runtime, knobs.tracking, inputs=inputs[:-1], out=inputs[-1], overlays=overlays)
    wrote(inputs[-1], f"{len(written)} files")


@app.command()
def ui(port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000) -> None:
    """Serve the MLflow UI on the project's own store, on this machine alone."""
    from segops.tracking.store import serve

    serve(port)


@app.command()
def clean(params: ParamsFile = PARAMS) -> None:
    """Remove checkpoints and derived arrays that no present model refers to, and what was fetched."""
    from segops.stages.clean import clean as stage

    for folder in stage(load(params).runtime, models=MODELS):
        typer.echo(f"removed {folder}")
