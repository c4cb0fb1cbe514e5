"""Collects what ingest changed in the files that it read, by kind of change."""

from __future__ import annotations

from collections import Counter
from copy import copy

from segops.contracts.dataset import FileChange

_NAMED = 20  # files of a change that are named


class ChangeLog:
    """Collects changes file by file; keeps counts and the first files' names."""

    def __init__(self) -> None:
        self._files: Counter[str] = Counter()
        self._pixels: Counter[str] = Counter()
        self._named: dict[str, dict[str, int]] = {}

    def add(self, change: str, file: str, pixels: int) -> None:
        """Note that `change` was made to so many pixels of a file."""
        self._files[change] += 1
        self._pixels[change] += pixels
        named = self._named.setdefault(change, {})
        if len(named) < _NAMED:
            named[file] = pixels

    def join(self, other: ChangeLog) -> None:
        """Take in what another log has collected after this one."""
        for change, named in other._named.items():
            self._files[change] += other._files[change]
            self._pixels[change] += other._pixels[change]
            ours = self._named.setdefault(change, {})
            for file, pixels in named.items():
                if len(ours) < _NAMED:
                    ours[file] = pixels

    def take(self) -> ChangeLog:
        """Return what was collected so far as a log of its own, and begin anew."""
        taken = copy(self)
        self._files, self._pixels, self._named = Counter(), Counter(), {}
        return taken

    def entries(self) -> list[FileChange]:
        """Return the changes, sorted by their text, with counts of files and pixels."""
        return [
            FileChange(change=change, files=self._files[change], pixels=self._pixels[change], named=self._named[change])
            for change in sorted(self._files)
        ]
