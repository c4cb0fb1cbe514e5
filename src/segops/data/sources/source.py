"""Opens every kind of source of raw files behind the same interface: named members with bytes.

A remote source is fetched first (`s3.py`, `http.py`, `dvc_repo.py`, `lakefs.py`), then read as the file or folder that
it is. A new kind is a function to `Fetched`, a case in `fetch`, and a line in the conformance suite.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import NoReturn, Protocol

from segops import files
from segops.data.decoders.ome_zarr import SUFFIX as ZARR
from segops.data.decoders.ome_zarr import pointer
from segops.data.sources.archives import TarArchive, ZipArchive, gunzip
from segops.data.sources.download import Fetched
from segops.data.sources.revealed import revealed
from segops.errors import UserError, may_pass

_ZIP = (".zip",)
_TAR = (".tar",)
_TAR_GZ = (".tar.gz", ".tgz")
_KINDS = "synthetic://, s3://, http(s)://, dvc://, lakefs://, a folder, or a .zip, .tar, .tar.gz or .tgz file"
_SCHEMES = ("synthetic", "s3", "http", "https", "dvc", "lakefs")
DOWNLOADS = ".segops/downloads"  # below the project: what was fetched, kept for the next time
_JUNK = {"__MACOSX", "Thumbs.db", "desktop.ini"}


class Source(Protocol):
    """Raw files under names."""

    @property
    def uri(self) -> str:
        """The source as params name it, without a local folder's path."""

    @property
    def revision(self) -> str | None:
        """What names this state of a remote source for good; None for a local source."""

    @property
    def sha256(self) -> str:
        """Hash of the archive file; of a folder, of its sorted 'name sha256' lines."""

    @property
    def names(self) -> list[str]:
        """POSIX names of the members, sorted; hidden files and what operating systems leave behind are left out."""

    def read(self, name: str) -> bytes:
        """Return a member's bytes. Raises UserError where the source is damaged there."""


class FolderSource:
    """A folder of files; links are followed, since data managers link files into place."""

    def __init__(self, folder: Path, uri: str | None = None, revision: str | None = None) -> None:
        self.folder = folder
        self.uri = uri or folder.resolve().name
        self.revision = revision
        self.names = sorted(name for name in _walk(folder) if not is_junk(name))

    @cached_property
    def sha256(self) -> str:
        """The hash of the names and contents of all files."""
        return files.sha256_lines(f"{name} {_sha256(self.folder / name)}" for name in self.names)

    def read(self, name: str) -> bytes:
        """Return the content of a file; of an image that is a folder, a pointer to it."""
        return read_member(self.folder / name)


class ArchiveSource:
    """An archive file whose members are read in place."""

    def __init__(self, archive: ZipArchive | TarArchive, uri: str, sha256: str, revision: str | None = None) -> None:
        self.uri = uri
        self.revision = revision
        self.sha256 = sha256
        self.names = sorted(name for name in archive.members if not is_junk(name))
        self._archive = archive

    def read(self, name: str) -> bytes:
        """Return the content of a member."""
        return self._archive.read(name)


@contextmanager
def open_source(
    uri: str, *, scratch: Path, sha256: str | None = None, max_gib: float = 64, connections: int = 8
) -> Iterator[Source]:
    """Open a source of raw files, fetched first where it is remote, and checked against its hash where that is known.

    Args:
        uri: `synthetic://nuclei?n=..&size=..&seed=..` or another generator, `s3://bucket/..`, `http(s)://..`,
            `dvc://repo@rev#path`, `lakefs://repo/ref/path`, a folder, or an archive. A relative path is looked up in
            the working directory, then in the project's folder.
        scratch: an existing folder for temporary files, which are gone afterwards.
        sha256: the hash that the source must have; None: any.
        max_gib: largest unpacked archive, GiB.
        connections: of a remote source, at the same time.

    Raises: UserError: unknown kind, missing, another hash, damaged or unsafe archive, a server that doesn't give it.
    """
    scheme = uri.partition("://")[0] if "://" in uri else None
    with ExitStack() as stack:
        source: Source
        if scheme == "synthetic":
            source = _open_synthetic(uri, Path(stack.enter_context(TemporaryDirectory(dir=scratch))), stack)
        else:
            fetched = fetch(uri, sha256=sha256, connections=connections)
            source = _open_files(fetched, sha256, scratch, max_gib, stack)
        if sha256 is not None:
            _check_sha256(source.uri, source.sha256, sha256)
        yield source


def fetch(uri: str, *, param: str = "ingest.source", sha256: str | None = None, connections: int = 8) -> Fetched:
    """Return the local file or folder that holds a source, fetched where it is remote.

    Args:
        uri: as of `open_source`, but not synthetic.
        param: named in messages.
        sha256: the file's expected hash, which http(s):// needs.
        connections: at the same time.
    """
    with revealed(uri) as whole:
        return _fetch(whole, param, sha256, connections)


def _fetch(uri: str, param: str, sha256: str | None, connections: int) -> Fetched:
    """Fetch by a source's kind."""
    scheme = uri.partition("://")[0] if "://" in uri else None
    downloads = files.project_root() / DOWNLOADS
    match scheme:
        case None:
            path = find(uri, param)
            return Fetched(path, path.resolve().name, None)
        case "s3":
            from segops.data.sources import s3

            return s3.fetch(uri, downloads, connections=connections)
        case "http" | "https":
            from segops.data.sources import http

            return http.fetch(uri, downloads, sha256=sha256, connections=connections)
        case "dvc":
            from segops.data.sources import dvc_repo

            return dvc_repo.fetch(uri, downloads, param=param, connections=connections)
        case "lakefs":
            from segops.data.sources import lakefs

            return lakefs.fetch(uri, downloads, param=param, connections=connections)
    near = difflib.get_close_matches(scheme, _SCHEMES, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}://'?" if near else f"it is one of {_KINDS}"
    raise UserError(f"{param}: {uri}: unknown kind of source '{scheme}://'; {hint}")


def _open_files(
    fetched: Fetched, sha256: str | None, scratch: Path, max_gib: float, stack: ExitStack
) -> FolderSource | ArchiveSource:
    """Open a fetched folder or archive as a source; a download of another hash is removed."""
    if fetched.path.is_dir():
        return FolderSource(fetched.path, fetched.uri, fetched.revision)
    actual = files.sha256_file(fetched.path)
    try:
        _check_sha256(fetched.path.name, actual, sha256)
    except UserError:
        if (files.project_root() / DOWNLOADS) in fetched.path.parents:
            fetched.path.unlink(missing_ok=True)  # so that the next try fetches it anew
        raise
    archive = _open_archive(fetched.path, scratch, max_gib, stack)
    return ArchiveSource(archive, fetched.uri, actual, fetched.revision)


def find(uri: str, param: str) -> Path:
    """Return the file or folder that `uri` names, in the working directory or the project.

    Raises UserError where neither has it.
    """
    with suppress(OSError, RuntimeError, ValueError):  # no file can have such a name, or nobody such a home
        path = Path(uri).expanduser()
        for place in (path, files.project_root() / path):
            if place.exists():
                return place
    raise UserError(f"{param}: {uri[:200]}: no such file or folder; it is one of {_KINDS}")


def is_junk(name: str) -> bool:
    """Return whether a member is hidden or something an operating system leaves behind."""
    return any(part.startswith(".") or part in _JUNK for part in PurePosixPath(name).parts)


def _open_synthetic(uri: str, scratch: Path, stack: ExitStack) -> Source:
    """Draw a synthetic source into a temporary archive, and open it."""
    from segops.data.sources import synthetic

    query = synthetic.parse(uri)
    path = scratch / "synthetic.tar"
    synthetic.write_archive(path, query)
    return ArchiveSource(stack.enter_context(TarArchive(path, uri, max_bytes=None)), uri, files.sha256_file(path))


def _open_archive(path: Path, scratch: Path, max_gib: float, stack: ExitStack) -> ZipArchive | TarArchive:
    """Open an archive by its suffix; a compressed tar is unpacked first. Raises UserError for another suffix."""
    max_bytes = int(max_gib * files.GIB)
    lower = path.name.lower()
    if lower.endswith(_ZIP):
        return stack.enter_context(ZipArchive(path, max_bytes=max_bytes))
    if lower.endswith(_TAR):
        return stack.enter_context(TarArchive(path, path.name, max_bytes=max_bytes))
    if lower.endswith(_TAR_GZ):
        unpacked = Path(stack.enter_context(TemporaryDirectory(dir=scratch))) / "unpacked.tar"
        gunzip(path, unpacked, max_bytes=max_bytes)
        return stack.enter_context(TarArchive(unpacked, path.name, max_bytes=max_bytes))
    raise UserError(f"ingest.source: {path.name}: unknown kind of file; a source is one of {_KINDS}")


def _check_sha256(name: str, actual: str, expected: str | None) -> None:
    """Raise UserError where a hash isn't the expected."""
    if expected is not None and actual != expected:
        raise UserError(
            f"ingest.sha256: {name} has {actual}, params expect {expected}; get the right file or correct the hash"
        )


def _walk(folder: Path) -> Iterator[str]:
    """Yield the POSIX paths of a folder's files, links followed.

    Raises UserError for a link in a circle, a broken link, a device, a folder that can't be read, or a name that isn't
    UTF-8.
    """
    for here, subfolders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        ancestors = {Path(here).resolve(), *Path(here).resolve().parents}
        subfolders[:] = [name for name in subfolders if not is_junk(name)]
        for name in subfolders:
            if (Path(here) / name).resolve() in ancestors:
                raise UserError(f"{Path(here) / name}: a link to a folder that it stands in; remove it")
        images = [name for name in subfolders if name.lower().endswith(ZARR)]
        subfolders[:] = [name for name in subfolders if name not in images]
        yield from ((Path(here) / name).relative_to(folder).as_posix() for name in images)
        for name in names:
            path = Path(here) / name
            check_encoding(path)
            if not path.is_file():
                raise UserError(f"{path}: a broken link or a device, not a file; remove it")
            if "\\" in name:
                raise UserError(f"{path}: a backslash in a name; rename the file")
            yield path.relative_to(folder).as_posix()


def read_member(path: Path) -> bytes:
    """Return the content of a file; of an image that is a folder, a pointer to it."""
    return pointer(path) if path.is_dir() else path.read_bytes()


def _sha256(path: Path) -> str:
    """Return the hash of a file; of an image that is a folder, of its files' names and contents."""
    if not path.is_dir():
        return files.sha256_file(path)
    inner = sorted(file for file in path.rglob("*") if file.is_file())
    return files.sha256_lines(f"{file.relative_to(path).as_posix()} {files.sha256_file(file)}" for file in inner)


def check_encoding(path: Path) -> None:
    """Raise UserError for a name whose bytes aren't UTF-8, as old shares and archives have them."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{os.fsencode(path)!r}: a name that isn't UTF-8; rename it, such as with "
            "`convmv -f latin1 -t utf8 --notest -r FOLDER`"
        ) from None


def unreadable(error: OSError) -> NoReturn:
    """Raise UserError for a folder that can't be listed: its files would be missing without a word."""
    if may_pass(error):
        raise error
    raise UserError(f"{error.filename}: can't be read ({error.strerror}); change its permissions")
