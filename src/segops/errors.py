"""Ends a command or a step: well, with a line for what a user can mend, or with a traceback for a bug of ours."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

TRY_AGAIN = os.EX_TEMPFAIL
"""Exit code 75 of `sysexits.h`: the same command may succeed later, with nothing changed."""

_FULL, _FORBIDDEN = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EROFS)


class UserError(ValueError):
    """A mistake in the data, the params or the environment.

    The text is a single line that names the file, row or param and what to do. The command line prints it and exits
    with `exit_code`, below the lines of `details` where there is more than a line to tell; any other exception is a bug
    and keeps its traceback.
    """

    exit_code = 1
    details: tuple[str, ...] = ()


class TryAgainError(UserError):
    """What may be gone when the same command is run again: a server that is away, a full disk."""

    exit_code = TRY_AGAIN


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with a single line on stderr for a user's error or a disk that can't be written.

    SIGTERM is raised as SystemExit inside the block, once, so that `finally` blocks remove half-written outputs.
    """
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    except UserError as error:
        for line in error.details:
            print(line, file=sys.stderr)  # noqa: T201
        _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in (*_FULL, *_FORBIDDEN):
            raise
        where = f" writing {error.filename}" if error.filename else ""
        code = TRY_AGAIN if error.errno in _FULL else 1
        _fail(
            f"{os.strerror(error.errno)}{where}; free space or choose another folder, then run the same command again",
            code,
        )
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(*_: object) -> NoReturn:
    # A pod's end reaches the process twice: by its group and by what supervises it. The second must not cut the first.
    """End the process on SIGTERM, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signal.SIGTERM)


def _fail(text: str, code: int) -> NoReturn:
    """Print a message as a line on stderr, and exit with a code."""
    print(f"segops: {' '.join(text.split())}", file=sys.stderr, flush=True)  # noqa: T201
    sys.exit(code)
