"""Ends a command or a step: well, with a line for what a user can mend, or with a traceback for a bug of ours."""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from segops.secrets import without_secrets

TRY_AGAIN = os.EX_TEMPFAIL
"""Exit code 75 of `sysexits.h`: the same command may succeed later, with nothing changed."""

_MOMENT_S = 0.01
_FULL = {
    errno.ENOSPC: "no space left on its disk",
    errno.EDQUOT: "your quota on its disk is used up",
    errno.EFBIG: "larger than `ulimit -f` or its disk allows",
}
# What libraries say whose errors have no number: SQLite, safetensors, PyArrow, PyTorch, NumPy.
_FULL_TEXTS = {
    r"disk is full|No space left|os error 28\b|errno 28\b": errno.ENOSPC,
    r"quota exceeded|os error 122\b|errno 122\b": errno.EDQUOT,
    r"File too large|os error 27\b|errno 27\b": errno.EFBIG,
    r"PytorchStreamWriter failed writing|unexpected pos \d+ vs|\d+ requested and \d+ written": errno.ENOSPC,
}
_DRIVE = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.EHOSTDOWN, errno.ENODEV)
_FIXES = {
    errno.ENOENT: "correct the path",
    errno.EACCES: "change its permissions or choose another place",
    errno.EPERM: "change its permissions or choose another place",
    errno.EROFS: "choose a folder on another disk",
    errno.EISDIR: "name a file, or move the folder away",
    errno.ENOTDIR: "move the file that stands in a folder's place away, or choose another place",
    errno.EEXIST: "move what is there away, or choose another place",
    errno.ENOTEMPTY: "move what is there away, or choose another place",
    errno.ENAMETOOLONG: "shorten the name",
    errno.ELOOP: "mend the links",
    errno.EMFILE: "raise `ulimit -n`",
    errno.EBUSY: "end the program that uses it",
    errno.ETXTBSY: "end the program that uses it",
    **dict.fromkeys(_DRIVE, "see that the disk or the network drive works"),
    errno.ENOMEM: "end other programs, or use a machine with more memory",
}
_MACHINE = {*_DRIVE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EBUSY, errno.ETXTBSY, errno.EAGAIN}
# What was done, by the function that did it; the innermost that is listed counts.
_DEEDS = {
    **dict.fromkeys(("mkdir", "makedirs", "mkdtemp"), "make"),
    **dict.fromkeys(("rename", "replace", "move"), "rename"),
    **dict.fromkeys(("unlink", "remove", "rmdir", "rmtree"), "remove"),
    **dict.fromkeys(("iterdir", "listdir", "scandir", "walk", "glob", "rglob"), "list"),
    **dict.fromkeys(("read_text", "read_bytes"), "read"),
    **dict.fromkeys(("write_text", "write_bytes", "touch", "copyfile"), "write"),
}


class OneLineError(Exception):
    """What ends a command with a line; any other exception is a bug and keeps its traceback.

    The text is a single line that names the file, row or param and what to do. The command line prints it and exits
    with `exit_code`, below the lines of `details` where there is more than a line to tell.
    """

    exit_code = 1
    details: tuple[str, ...] = ()


class UserError(OneLineError, ValueError):
    """A mistake in the data, the params or the environment."""


class TryAgainError(OneLineError):
    """What may be gone when the same command is run again: a server that is away, a full disk.

    It is no UserError, so that who goes on past a bad file, trial or version doesn't take the machine's fault for it.
    """

    exit_code = TRY_AGAIN


class DiskFullError(TryAgainError):
    """A disk that takes no more; trained epochs, trials and stages that ended are kept."""


@contextmanager
def reworded(word: Callable[[str], str]) -> Iterator[None]:
    """Say an error of the block in other words; it stays of its kind."""
    try:
        yield
    except OneLineError as error:
        error.args = (word(str(error)),)
        raise


def disk_full(error: BaseException, path: Path) -> DiskFullError | None:
    """Return the error about a full disk, if that is what an error of any library says, else None.

    Args:
        path: what was being written; the error may name a file below it.
    """
    number = _full_number(error)
    if number is None or isinstance(error, OneLineError):
        return None
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    place = Path(os.fsdecode(named)) if isinstance(named, (str, bytes)) else path
    return DiskFullError(
        f"can't write {place}: {_FULL[number]}{_room(place)}; free space or choose another folder, then run the same "
        "command again"
    )


def _full_number(error: BaseException) -> int | None:
    """Return the number of a full disk's error, from its text where it has none; None for any other error."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _FULL else None
    text = str(error)
    return next((number for words, number in _FULL_TEXTS.items() if re.search(words, text, re.IGNORECASE)), None)


def require_space(path: Path, size_bytes: int) -> None:
    """Raise DiskFullError when what will be written to `path` is larger than what its disk has left."""
    free = shutil.disk_usage(_nearest(path)).free
    if size_bytes > free:
        raise DiskFullError(
            f"can't write {path}: it needs {shown_bytes(size_bytes)}{_room(path)}; free space or choose another "
            "folder, then run the same command again"
        )


def shown_bytes(size: float) -> str:
    """Write a number of bytes with a binary unit: 1536 is '1.5 KiB'."""
    if size < 1024:
        return f"{size:.0f} bytes"
    exponent = min(int(math.log(size, 1024)), 4)
    return f"{size / 1024**exponent:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[exponent - 1]}"


def _room(path: Path) -> str:
    """Describe the disk that a path is on: its mount point, and what is left of it."""
    folder = _nearest(path)
    usage = shutil.disk_usage(folder)
    while not os.path.ismount(folder):
        folder = folder.parent
    return f" ({folder}, {shown_bytes(usage.free)} left of {shown_bytes(usage.total)})"


def _nearest(path: Path) -> Path:
    """Return the path, or the folder above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with a single line on stderr for a user's error, and for what a disk or memory refuses.

    SIGTERM is raised as SystemExit inside the block, once, so that `finally` blocks remove half-written outputs.
    """
    before, hook, level = signal.signal(signal.SIGTERM, _terminated), sys.unraisablehook, logging.root.manager.disable
    try:
        yield
    except OneLineError as error:
        for line in error.details:
            print(without_secrets(line), file=sys.stderr)  # noqa: T201
        _fail(str(error), error.exit_code)
    except (OSError, MemoryError, RuntimeError, UnicodeEncodeError) as error:
        if (complaint := _complaint(error)) is None:
            raise
        _fail(str(complaint), complaint.exit_code)
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.unraisablehook = hook
        logging.disable(level)


def _complaint(error: OSError | MemoryError | RuntimeError | UnicodeEncodeError) -> OneLineError | None:
    """Return a line about what the system refused; None for an error of no file, which is a bug of ours."""
    if isinstance(error, UnicodeEncodeError):
        odd = any("\udc80" <= character <= "\udcff" for character in error.object[error.start : error.end])
        name = error.object.encode(errors="backslashreplace").decode()
        return UserError(f"{name}: a name that isn't UTF-8 text; rename it") if odd else None
    if isinstance(error, MemoryError):
        return UserError(f"memory is used up ({error}); use smaller images or batches, or a machine with more memory")
    if isinstance(error, RecursionError):
        return UserError("a file or params.yaml nests deeper than can be read; make it flatter")
    if isinstance(error, RuntimeError):
        looped = str(error).startswith("Symlink loop")  # as pathlib says it before Python 3.13
        return UserError(f"{error}; mend the links") if looped else None
    named = error.filename2 or error.filename
    path = Path(os.fsdecode(named)) if isinstance(named, (str, bytes)) else None
    if (full := disk_full(error, path or Path.cwd())) is not None:
        return full
    if path is None and error.errno not in (errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM):
        return None
    fix = _FIXES.get(error.errno or 0, "put that right")
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    kind = TryAgainError if may_pass(error) else UserError
    return kind(f"can't {_deed(error)} {path or 'a file'}: {reason}; {fix}, then run the same command again")


def may_pass(error: OSError) -> bool:
    """Tell whether an error is of the machine or a drive, which may be well again later, and not of a file."""
    return error.errno in _MACHINE


def _deed(error: OSError) -> str:
    """Say what was being done, from the traceback; `use` where that doesn't tell."""
    deed = "use"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name, mode = frame.f_code.co_name, frame.f_locals.get("mode")
        if name == "open" and isinstance(mode, str):
            deed = "write" if set(mode) & set("wax+") else "read"
        else:
            deed = _DEEDS.get(name, deed)
    return deed


def _terminated(*_: object) -> NoReturn:
    # A pod's end reaches the process twice: by its group and by what supervises it. The second must not cut the first.
    """End the process on SIGTERM, once; libraries don't tell at length of the work that is cut."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = _unraised
    raise SystemExit(128 + signal.SIGTERM)


def _unraised(unraisable: sys.UnraisableHookArgs) -> None:
    """End the process a moment later where Python couldn't raise, as while it destroys an object."""
    if not isinstance(unraisable.exc_value, SystemExit):
        sys.__unraisablehook__(unraisable)
        return
    signal.signal(signal.SIGTERM, _terminated)
    threading.Timer(_MOMENT_S, os.kill, (os.getpid(), signal.SIGTERM)).start()


def _fail(text: str, code: int) -> NoReturn:
    """Print a message as a line on stderr, and exit with a code."""
    print(f"segops: {without_secrets(' '.join(text.split()))}", file=sys.stderr, flush=True)  # noqa: T201
    sys.exit(code)
