"""Decides which names that come from outside may become files: the ones that mean one file inside a folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from tempfile import NamedTemporaryFile

from segops.errors import UserError

_LONGEST_PART = 255  # bytes, of a disk's file name


def fault_of_name(name: str) -> str | None:
    """Return why a name can't be that of a file inside a folder, the same on every system; None: it can."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or parts[0].endswith(":"):
        return "points outside"
    if "\\" in name or not name.isprintable():
        return "has a backslash or an unprintable character"
    return None


def check_names(where: str, names: Iterable[str], prefix: str, disk: Path) -> None:
    """Refuse names below a prefix that can't all be files of one folder on the disk of the folder `disk`.

    Raises: UserError naming the object: outside the folder, empty or dotted parts, too long, at once a file and a
    folder, or the same file as another on a disk that tells no capitals apart.
    """
    inner = {name: name.removeprefix(prefix) for name in names}
    folders = {str(parent) for name in inner.values() for parent in Path(name).parents}
    same: dict[str, str] = {}
    fold = _folded if folds(disk) else str
    for name, path in inner.items():
        fault, parts = fault_of_name(path), path.split("/")
        if fault is None and {"", "."} & set(parts):
            fault = "has an empty or dotted part"
        if fault is None and any(len(part.encode(errors="replace")) > _LONGEST_PART for part in parts):
            fault = f"has a part of over {_LONGEST_PART} bytes, more than a disk takes"
        if fault is None and path in folders:
            fault = "is at once a file and a folder, which a disk can't hold"
        if fault is None and (other := same.setdefault(fold(path), name)) != name:
            fault = f"differs from {other!r} in capitals or accents alone, and the disk of {disk} would keep only one"
        if fault is not None:
            raise UserError(f"{where}/{name!r} {fault}; rename the object")


def folds(folder: Path) -> bool:
    """Return whether a folder's disk takes names that differ in capitals for one, as those of macOS and Windows do."""
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(prefix="Case", dir=folder) as probe:
        return Path(probe.name.replace("Case", "cASE")).exists()


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
