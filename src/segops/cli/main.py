"""Runs the command line."""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from segops.cli import begin, decide, graph, guard, look, use
from segops.cli.common import WARM
from segops.errors import one_line_errors
from segops.progress import QUIET

_PARTS = {
    begin: "Begin",
    graph: "The graph, stage by stage (`dvc repro` runs it)",
    look: "Look",
    decide: "Decide",
    guard: "Guard decisions",
    use: "Use a model, and clear away",
}

# Objects until a collection of garbage, and collections until one of the next older kind. By Python's own, 700, imports
# of thousands of modules are interrupted by collections that find nothing: a tenth of a registration's seconds.
_COLLECT_AFTER = (50_000, 20, 100)


class Commands(TyperGroup):
    """Lists the commands in help under what they are for."""

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """Write a section for each part of the command line."""
        width = max(map(len, self.commands))
        for part, title in _PARTS.items():
            own = [command for command in self.commands.values() if command.callback.__module__ == part.__name__]
            rows = [(str(one.name).ljust(width), one.get_short_help_str(formatter.width - width - 6)) for one in own]
            with formatter.section(title):
                formatter.write_dl(rows)


app = typer.Typer(
    name="segops",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in _PARTS:
    app.add_typer(part.app)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"segops {version('segops')}")
        raise typer.Exit


@app.callback()
def _common(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; results and warnings alone.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """From a raw biomedical image archive to a promoted segmentation model. Not for clinical use."""
    if quiet:
        os.environ[QUIET] = "1"


def main() -> None:
    """Run a command, here or in a warm process; `errors.one_line_errors` says how it ends."""
    gc.set_threshold(*_COLLECT_AFTER)
    if WARM in os.environ:
        from segops.cli.hand_over import end_as, hand_over

        if (code := hand_over(sys.argv[1:])) is not None:
            end_as(code)
    with one_line_errors():
        app()
