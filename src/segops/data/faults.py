"""Collects what is wrong with a source's files, so that one run tells it all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from segops.contracts.tables import write_csv
from segops.errors import TryAgainError, UserError

_KINDS, _NAMED = 8, 3  # kinds of faults that are shown, and files of each
_NUMBER = re.compile(r"\d[\d,.]*")


class Fault(NamedTuple):
    """What is wrong with a file, and what to do about it."""

    file: str
    fault: str


class FaultLog:
    """Collects the faults of files, and raises them together."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._texts: list[str] = []

    @contextmanager
    def collected(self, file: str) -> Iterator[None]:
        """Take a UserError of the block as a fault of `file`, or of the file that its text begins with."""
        try:
            yield
        except TryAgainError:  # no fault of the file
            raise
        except UserError as error:
            name, colon, text = str(error).partition(": ")
            self.faults.append(Fault(name, text) if colon else Fault(file, str(error)))
            self._texts.append(str(error))

    def join(self, other: FaultLog) -> None:
        """Take in another log's faults."""
        self.faults += other.faults
        self._texts += other._texts

    def raise_any(self, files: int, page: Path | None, *, advice: str = "") -> None:
        """Raise the faults, if there are any: a single one as it was, several grouped by their kind.

        Args:
            files: how many were read.
            page: the table that lists all faults; None: nowhere.
            advice: ends the text where there are several.
        """
        if not self.faults:
            return
        if len(self._texts) == 1:
            raise UserError(self._texts[0])
        if page is not None:
            self._write(page)
        kinds: dict[str, list[Fault]] = {}
        for fault in self.faults:
            kinds.setdefault(_NUMBER.sub("#", fault.fault), []).append(fault)
        commonest = sorted(kinds.values(), key=lambda faults: (-len(faults), faults[0]))
        lines = [_line(faults) for faults in commonest[:_KINDS]]
        if len(commonest) > _KINDS:
            lines.append(f"  and {len(commonest) - _KINDS} other kinds")
        where = f" and in {page}" if page is not None else ""
        first = self.faults[0]
        error = UserError(
            f"{first.file}: {first.fault} (and {len(self.faults) - 1} more of {files} images, listed above{where})"
            f"{f'; {advice}' if advice else ''}"
        )
        error.details = tuple(lines)
        raise error

    def _write(self, page: Path) -> None:
        """Write all faults as a table of file and fault."""
        import pandas as pd

        page.parent.mkdir(parents=True, exist_ok=True)
        write_csv(pd.DataFrame(self.faults), page)


def _line(faults: list[Fault]) -> str:
    """Word faults of a kind: the first one's text, and the first files."""
    files = ", ".join(fault.file for fault in faults[:_NAMED]) + (", .." if len(faults) > _NAMED else "")
    number = "1 file" if len(faults) == 1 else f"{len(faults)} files"
    return f"  {number}: {faults[0].fault} ({files})"
