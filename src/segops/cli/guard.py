"""Defines the commands that keep a decision: the watchdog of the alias, and the keys that sign."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from segops.cli.common import PARAMS, ParamsFile, load
from segops.cli.decide import Yes, confirmation

app = typer.Typer()


@app.command()
def watch(
    params: ParamsFile = PARAMS,
    once: Annotated[bool, typer.Option("--once", help="Look once; exit code 5: the alias isn't the ledger's.")] = False,
    register: Annotated[
        str | None,
        typer.Option("--register", metavar="URL", help="Have MLflow post its events to this address, and end."),
    ] = None,
) -> None:
    """Say, or put right, when the alias `champion` moves and no decision moved it, as lines of JSON."""
    from segops.commands.watch import DISAGREES, line, register_webhook
    from segops.commands.watch import watch as command

    if register is not None:
        new = register_webhook(register)
        typer.echo(f"MLflow posts its registry's events to {register}{'' if new else ' (the webhook was there)'}")
        return
    signal.signal(signal.SIGTERM, _ended)
    knobs = load(params)
    finding = command(knobs.watch, knobs.tracking, say=lambda status: typer.echo(line(status)), once=once)
    if finding is not None and finding.status not in ("agrees", "reverted"):
        raise typer.Exit(DISAGREES)


@app.command()
def sign(params: ParamsFile = PARAMS, yes: Yes = False) -> None:
    """Sign the ledger's entries from before there were keys, after a look at them. Versions: register them again."""
    from segops.commands.sign import sign as command

    number = command(load(params).tracking, confirm=confirmation(yes))
    typer.echo(f"{number} entries signed")


@app.command()
def keygen(file: Annotated[Path, typer.Argument(help="Where the private key goes, out of git.")]) -> None:
    """Make a key that signs versions and decisions (Ed25519); print the public key."""
    from segops.tracking.signing import KEY_VARIABLE, PASSWORD_VARIABLE
    from segops.tracking.signing import keygen as make

    public = make(file)
    lock = "locked with" if os.environ.get(PASSWORD_VARIABLE) else "not locked; make it anew with"
    typer.echo(f"{file}: who signs sets {KEY_VARIABLE} to it; {lock} {PASSWORD_VARIABLE}", err=True)
    typer.echo("for tracking.decision_keys or tracking.version_keys in params.yaml:", err=True)
    typer.echo(public)


def _ended(*_: object) -> NoReturn:
    raise SystemExit(0)  # to be told to end is how a watchdog ends
