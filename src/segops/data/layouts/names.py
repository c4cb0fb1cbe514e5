"""Makes ids of names: without dots and slashes, short, and different for different names."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

# Files are named after ids; a name holds 255 bytes on most disks, and a suffix or a temporary ending is added to it.
_MAX_BYTES = 160


def composed(text: str) -> str:
    """Return a text in Unicode's composed form (NFC): macOS stores an accent apart from its letter."""
    return unicodedata.normalize("NFC", text)


def identifiers(keys: Iterable[str]) -> dict[str, str]:
    """Return an id for each key, in which anything but letters, digits, '_' and '-' becomes '_'.

    Where keys would get the same id, each that isn't that id itself gets a part of its hash; so does an id of more than
    160 bytes, whose end it replaces.
    """
    ids = {key: re.sub(r"[^\w-]", "_", composed(key)) for key in keys}
    number = Counter(ids.values())
    return {key: _short(identifier, key, shared=number[identifier] > 1) for key, identifier in ids.items()}


def _short(identifier: str, key: str, *, shared: bool) -> str:
    """Return an id of at most 160 bytes, with a part of its key's hash where it is longer or others would have it."""
    longer = len(identifier.encode()) > _MAX_BYTES
    if not longer and (not shared or identifier == key):
        return identifier
    mark = hashlib.sha256(key.encode()).hexdigest()[:8]
    head = identifier.encode()[: _MAX_BYTES - len(mark) - 1].decode(errors="ignore")
    return f"{head}-{mark}"
