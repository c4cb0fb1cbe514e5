"""How a command ends: well, with one line for a user's mistake or a full disk, or a traceback for a bug of ours."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import typer

from segops.errors import UserError


def _terminated(*_: object) -> NoReturn:
    # Raised so that `finally` blocks remove half-written outputs.
    raise SystemExit(128 + signal.SIGTERM)


def run(app: Callable[[], object]) -> None:
    """Run the command line: a user's mistake is one line and exit code 1; a traceback is a bug of ours."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except UserError as error:
        _fail(str(error), getattr(error, "exit_code", 1))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        where = f" writing {error.filename}" if error.filename else ""
        _fail(
            f"{os.strerror(error.errno)}{where}; free space or choose another folder, then run the same command again",
            1,
        )


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(f"segops: {' '.join(text.split())}", err=True)
    sys.exit(code)
