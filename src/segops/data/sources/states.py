"""Names the state of a source of raw files without reading it: the same text means the same content.

A folder is listed with sizes and times of change, as make and DVC do; an object in S3 has a version or an ETag, a
prefix its listing; a URL an ETag or a time of change; a DVC or lakeFS repository a commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from segops import files
from segops.data.sources.revealed import revealed
from segops.data.sources.source import FolderSource, fetch, find


def source_state(uri: str, *, param: str, sha256: str | None = None) -> str:
    """Return a text that names a source's present state, without reading its content.

    Args:
        uri: as of `open_source`.
        param: named in messages.
        sha256: the hash that the content must have: it names the state, and the source isn't asked.

    Raises: UserError: no such source, no access, a server that keeps failing.
    """
    if sha256 is not None:
        return f"sha256 {sha256}"
    with revealed(uri) as whole:
        return _state(whole, param)


def _state(uri: str, param: str) -> str:
    """Name a state by a source's kind."""
    scheme = uri.partition("://")[0] if "://" in uri else None
    match scheme:
        case None:
            return f"listing {files.sha256_lines(_listed(find(uri, param)))}"
        case "synthetic":
            return uri
        case "s3":
            from segops.data.sources import s3

            return f"revision {s3.state(uri)}"
        case "http" | "https":
            from segops.data.sources import http

            return f"version {http.state(uri)}"
        case "dvc":
            from segops.data.sources import dvc_repo

            return f"commit {dvc_repo.resolve(uri, param=param)}"
        case "lakefs":
            from segops.data.sources import lakefs

            return f"commit {lakefs.resolve(uri, param=param)}"
    fetch(uri, param=param)  # which refuses other schemes
    raise AssertionError(uri)


def _listed(path: Path) -> Iterator[str]:
    """Yield name, size and time of change of a file, or of a folder's files."""
    for name, file in ((name, path / name) for name in FolderSource(path).names) if path.is_dir() else [("", path)]:
        about = file.stat()
        yield f"{name} {about.st_size} {about.st_mtime_ns}"
