"""Says what became of an input that a function of the product was given."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.chaos.outcome import Outcome
from segops.errors import OneLineError

BAD_INPUTS = "bad inputs"
_LIMIT_S = 30
Read = Callable[[], object]


def judged(
    case: str, read: Read, names: tuple[str, ...], expected: str | None = None, *, sealed: bool = False
) -> Outcome:
    """Read, and say what became of it.

    Args:
        case: what was thrown.
        read: the reader.
        names: the line names one of these.
        expected: what the undamaged file reads as.
        sealed: whether reading as anything else is wrong.
    """
    try:
        with _in_time():
            found = repr(read())
    except OneLineError as error:
        text = str(error)
        fine = "\n" not in text and any(name in " ".join((text, *error.details)) for name in names)
        return Outcome(BAD_INPUTS, case, "one line" if fine else "wrong", text[:300])
    except TimeoutError:
        return Outcome(BAD_INPUTS, case, "wrong", f"no answer in {_LIMIT_S} s")
    except Exception as error:
        return Outcome(BAD_INPUTS, case, "traceback", f"{type(error).__name__}: {error}"[:300])
    if found == expected or expected is None:
        return Outcome(BAD_INPUTS, case, "right", "")
    return Outcome(BAD_INPUTS, case, "wrong" if sealed else "right", "read as another valid content")


@contextmanager
def _in_time() -> Iterator[None]:
    """Raise TimeoutError in the block after a while."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
