"""Fetches published weights, a safetensors file by URI and hash, and keeps them under the hash."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from segops import files
from segops.data.sources.source import DOWNLOADS, fetch
from segops.errors import UserError
from segops.locks import hold

SUFFIX = ".safetensors"


def fetch_weights(source: str, sha256: str, cache: Path, *, param: str) -> Path:
    """Return the weights file with this hash, from the cache or fetched into it.

    Args:
        source: a file, http(s)://, s3://, or a file in dvc://; its name ends in .safetensors.
        sha256: the hash that it must have.
        cache: keeps it as `<sha256>.safetensors`, so that a training works where the source is gone.
        param: named in messages.

    Raises: UserError: another kind of file, no such file, another hash, a server that doesn't give it.
    """
    cached = cache / f"{sha256}{SUFFIX}"
    with hold(cached.with_suffix(".lock")):
        if not cached.is_file() or files.sha256_file(cached) != sha256:
            _fetch(source, sha256, cached, param)
    return cached


def _fetch(source: str, sha256: str, cached: Path, param: str) -> None:
    """Bring the file with this hash to the path `cached`."""
    if PurePosixPath(urlsplit(source).path).suffix != SUFFIX:
        raise UserError(f"{param}.source: {source}: not a {SUFFIX} file; docs/reference/models.md converts a .pth")
    fetched = fetch(source, param=f"{param}.source", sha256=sha256)
    if not fetched.path.is_file():
        raise UserError(f"{param}.source: {source}: a folder; name the {SUFFIX} file in it")
    ours = (files.project_root() / DOWNLOADS) in fetched.path.parents
    actual = files.sha256_file(fetched.path)
    if actual != sha256:
        if ours:
            fetched.path.unlink()  # so that the next try fetches it anew
        raise UserError(
            f"{param}.sha256: {fetched.path.name} has {actual}, params expect {sha256}; get the right file or "
            "correct the hash"
        )
    with files.atomic_path(cached) as partial:
        (shutil.move if ours else shutil.copyfile)(fetched.path, partial)
