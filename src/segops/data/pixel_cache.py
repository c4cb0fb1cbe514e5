"""Keeps arrays that were fetched on a disk, up to a size: the least recently used go first."""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from threading import Lock

from segops.files import atomic_path

_LOOK_EVERY = 64  # additions, after which what other processes added is counted too


class PixelCache:
    """A folder of arrays, each a file named by where it begins. Processes may share it.

    Args:
        folder: made where it is missing.
        limit_bytes: of all files; an array that is larger by itself isn't kept.

    Attributes:
        size_bytes: what the files take that this process knows of.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit = folder, limit_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self.size_bytes = 0
        self._added, self._lock = 0, Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._look()

    def __contains__(self, begin: int) -> bool:
        return (self._folder / str(begin)).is_file()

    def get(self, begin: int) -> bytes | None:
        """Return an array's bytes and count it as used now; None where it isn't there."""
        path = self._folder / str(begin)
        try:
            content = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        with self._lock:
            if path.name in self._sizes:
                self._sizes.move_to_end(path.name)
        return content

    def put(self, begin: int, content: bytes) -> None:
        """Keep an array, and remove those that were used longest ago until all fit."""
        if len(content) > self._limit:
            return
        path = self._folder / str(begin)
        with self._lock:
            self._added += 1
            if self._added % _LOOK_EVERY == 0:
                self._look()
            self.size_bytes += len(content) - self._sizes.pop(path.name, 0)
            while self.size_bytes > self._limit:
                oldest, removed = self._sizes.popitem(last=False)
                self.size_bytes -= removed
                (self._folder / oldest).unlink(missing_ok=True)
            self._sizes[path.name] = len(content)
        with atomic_path(path) as partial:
            partial.write_bytes(content)

    def _look(self) -> None:
        """List the folder's files, the one that was used longest ago first."""
        files = []
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):  # another process removed it
                about = entry.stat()
                if entry.name.isdigit():
                    files.append((about.st_mtime_ns, entry.name, about.st_size))
        self._sizes = OrderedDict((name, size) for _, name, size in sorted(files))
        self.size_bytes = sum(self._sizes.values())
