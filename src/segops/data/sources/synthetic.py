"""Draws sources of images and volumes, so that the whole graph runs without a download: `nuclei` and `organs`.

A new generator is a class with the keys of its URI and the members that it draws, and a line in GENERATORS.
"""

from __future__ import annotations

import difflib
import io
import tarfile
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from segops.data.sources.nuclei import Nuclei
from segops.data.sources.organs import Organs
from segops.errors import UserError

SCHEME = "synthetic"
Query = Nuclei | Organs
GENERATORS: dict[str, type[Query]] = {"nuclei": Nuclei, "organs": Organs}


def parse(uri: str) -> Query:
    """Read a `synthetic://` URI. Raises UserError that names the wrong key or value and what would be right."""
    where = f"ingest.source: {uri}"
    parts = urlsplit(uri)
    generator = GENERATORS.get(parts.netloc)
    if parts.scheme != SCHEME or generator is None or parts.path not in ("", "/") or parts.fragment:
        raise UserError(f"{where}: the generators are {' and '.join(known().uri for known in GENERATORS.values())}")
    values: dict[str, object] = {}
    for key, text in parse_qsl(parts.query, keep_blank_values=True):
        if key not in generator.KEYS:
            near = difflib.get_close_matches(key.lower(), generator.KEYS, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(generator.KEYS)}"
            raise UserError(f"{where}: unknown key '{key}'; {hint}")
        if key in values:
            raise UserError(f"{where}: '{key}' stands there twice; keep one")
        try:
            values[key] = generator.KEYS[key](text)
        except ValueError as error:
            raise UserError(f"{where}: {key} = '{text}' {error}") from None
    return generator(**values)  # type: ignore[arg-type]  # KEYS read each field's type


def write_archive(path: Path, query: Query) -> None:
    """Write the members to an uncompressed tar; equal queries give equal bytes on machines of the same kind."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in query.members():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
