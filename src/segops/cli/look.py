"""Defines the commands that show where things are: MLflow's pages and our own."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def ui(port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000) -> None:
    """Serve the MLflow UI on the project's own store, on this machine alone."""
    from segops.tracking.ui import serve

    serve(port)
