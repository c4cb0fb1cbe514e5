"""Write docs/reference/cli.md from the commands themselves: `python -m tools.cli_page [--check]`."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import typer

from segops.cli.main import app
from tools.generated import write_or_check

PAGE = Path("docs/reference/cli.md")
HEAD = """# Command line

Written from the commands by `make docs`; `segops COMMAND --help` prints the same. Paths are relative to the project.
The pipelines have commands of their own: see [On Kubeflow](../how-to/kubeflow.md).

`segops --quiet COMMAND` (or `SEGOPS_QUIET=1`, for `dvc repro`) leaves out progress; results and warnings stay. Progress
is a bar in a terminal, and elsewhere, under `dvc repro` too, a line every ten seconds at most. `segops --version` says
which version this is, and `segops --install-completion` lets the shell complete commands and names of candidates.

| exit code | meaning |
|---|---|
| 0 | the command did what it was asked |
| 1 | an error that you can mend, in one line; of `history`: the ledger or the alias isn't what was decided |
| 2 | a command or an option that doesn't exist |
| 3 | `promote`: the gate refused |
| 4 | `drift`: the new images differ from the training images |
| 5 | `watch --once`: the alias isn't the ledger's |
| 6 | `audit`: test images have a relative in training |
| 75 | a server is away or the disk is full: the same command may succeed later |
"""


def page() -> str:
    """The whole page: the exit codes, then a section per command in the order of `segops --help`."""
    group: Any = typer.main.get_command(app)
    context = typer.Context(group, info_name="segops")
    sections = [_section(group.get_command(context, name), context) for name in group.list_commands(context)]
    return "\n".join([HEAD, *sections])


def _section(command: Any, parent: typer.Context) -> str:
    context = typer.Context(command, info_name=command.name, parent=parent)
    usage = " ".join(["segops", command.name, *command.collect_usage_pieces(context)])
    rows = [_row(param) for param in command.params]
    lines = [f"## {command.name}", "", textwrap.fill(" ".join(command.help.split()), 120), "", "```", usage, "```", ""]
    if rows:
        lines += ["| argument or option | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _row(param: Any) -> str:
    is_option = param.param_type_name == "option"
    names = ", ".join(f"`{name}`" for name in param.opts) if is_option else f"`{param.name.upper()}`"
    default = "required" if param.required else _default(param.default)
    return f"| {names} | {default} | {' '.join((param.help or '').split())} |"


def _default(value: object) -> str:
    return "" if value is None or value is False else f"`{value}`"


if __name__ == "__main__":
    write_or_check(PAGE, lambda _: page(), "not what the commands say")
