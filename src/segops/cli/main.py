"""Runs the command line."""

from __future__ import annotations

import typer

from segops.cli import begin, decide, graph, guard, use
from segops.errors import one_line_errors

app = typer.Typer(
    name="segops",
    help="From a raw biomedical image archive to a promoted segmentation model. Not for clinical use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (begin, graph, decide, guard, use):
    app.add_typer(part.app)


def main() -> None:
    """Run a command; `errors.one_line_errors` says how it ends."""
    with one_line_errors():
        app()
