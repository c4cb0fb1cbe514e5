"""The journal file of studies: a line a change, which kills and full disks may tear and people may delete."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from segops.errors import UserError
from segops.files import naming


class _Journal(JournalFileBackend):
    """Optuna's journal, whose torn last line is cut off before another follows it, and whose loss is said."""

    def __init__(self, path: Path) -> None:
        self._path, self._own_lock = path, JournalFileSymlinkLock(str(path))
        super().__init__(str(path), self._own_lock)
        self._opened = path.stat()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines, all of them whole. Raises DiskFullError, and UserError where the file is gone."""
        self._refuse_another_file()
        with naming(self._path):
            self._cut_torn_line()
            try:
                super().append_logs(logs)
            except OSError:
                self._cut_torn_line()
                raise

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Read the lines from a number on. Raises UserError where the file is gone."""
        self._refuse_another_file()
        return super().read_logs(log_number_from)

    def _refuse_another_file(self) -> None:
        """Raise UserError where the file was deleted, or another has its name."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            now = None
        if now is None or (now.st_dev, now.st_ino) != (self._opened.st_dev, self._opened.st_ino):
            raise UserError(
                f"{self._path} was deleted while a search used it, and its trials with it; run the same command again: "
                "the search starts over, finished trainings are found again"
            )

    def _cut_torn_line(self) -> None:
        """Remove what stands behind the last line end."""
        if _ends_whole(self._path):
            return
        self._own_lock.acquire()
        try:
            if not _ends_whole(self._path):  # nobody is writing it just now
                os.truncate(self._path, self._path.read_bytes().rfind(b"\n") + 1)
        finally:
            self._own_lock.release()


def _ends_whole(path: Path) -> bool:
    """Tell whether a file is empty or ends with a line end."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) in (b"", b"\n")


def open_journal(path: Path) -> JournalStorage:
    """Open the journal, made where it isn't there. Raises UserError where it can't be read."""
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = _Journal(path)
    try:
        return JournalStorage(journal)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is no journal of searches, or a broken one ({type(error).__name__}: {error}): `mv {path} "
            f"{path}.broken` and run the same command again; its trials are lost, finished trainings are found again"
        ) from None
