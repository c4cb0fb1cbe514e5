"""Defines the commands that show where things are: how far a project is, MLflow's pages and our own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segops.cli.common import COMPARISON, PARAMS, REPORTS, TUNING, VALIDATION, ParamsFile, load

app = typer.Typer()


@app.command()
def status(
    params: ParamsFile = PARAMS,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    comparison: Path = COMPARISON,
) -> None:
    """Say what is done, stale and running, who is champion, and where the pages are."""
    from segops.cli.printing import print_status
    from segops.commands.status import status as command

    knobs = load(params)
    pages = {
        "comparison": comparison / "index.html",
        "data": VALIDATION / "report.html",
        "search": TUNING / "index.html",
        **{name: REPORTS / name / "gallery.html" for name in knobs.candidates},
    }
    print_status(command(knobs.tracking, knobs.runtime, pages=pages, comparison=comparison), as_json=as_json)


@app.command()
def ui(
    params: ParamsFile = PARAMS,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the candidates' view.")] = True,
    comparison: Path = COMPARISON,
) -> None:
    """Open MLflow where the candidates are compared, and print where all pages are; serve the project's own store."""
    from segops.cli.printing import print_addresses
    from segops.commands.ui import ui as command

    command(load(params).tracking, port=port, comparison=comparison, browse=browser, show=print_addresses)
