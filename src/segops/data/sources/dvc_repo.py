"""Fetches files and folders that a DVC repository tracks: `dvc://REPO@REV#PATH`.

REPO is a folder or a git URL, REV a branch, tag or commit (without it: HEAD of the default branch), PATH a file or
folder in it. Contents come from DVC's cache or the repository's DVC remote, whose credentials are those of its own
environment, and are checked against the MD5 that the commit names; files that git holds come from git.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from segops import files
from segops.data.sources.download import Fetched, Interrupted, fetching, patiently
from segops.data.sources.dvc_trust import check_repository, distrusted
from segops.data.sources.names import check_names
from segops.errors import OneLineError, UserError, reworded
from segops.progress import note
from segops.secrets import without_secrets

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

_FORM = "dvc://REPO@REVISION#PATH, such as dvc://../archive@v2#raw/images.zip"
_SCP = re.compile(r"[\w.-]+@[\w.-]+:")
_NO_PATH = "there is no such file or folder at this revision; correct the path"
_NOT_STORED = "neither DVC's cache nor its remote has the content; `dvc push` it where it is, or add a DVC remote"


@dataclass(frozen=True)
class Location:
    """The parts of a `dvc://` URI; rev is None for the default branch."""

    repo: str
    rev: str | None
    path: str

    @property
    def public(self) -> str:
        """The URI without user name and password."""
        rev = f"@{self.rev}" if self.rev else ""
        return f"dvc://{without_secrets(self.repo)}{rev}#{self.path}"

    @property
    def local(self) -> Path | None:
        """The folder of a local repository: relative to the working directory, else to the project."""
        with suppress(OSError, RuntimeError, ValueError):  # no folder can have such a name, or nobody such a home
            places = (Path(self.repo).expanduser(), files.project_root() / self.repo)
            return next((place for place in places if place.is_dir()), None)
        return None

    @property
    def named(self) -> str:
        """The URI without logins, and with a local repository's name instead of its path: files keep no path."""
        if self.repo.startswith("file://"):
            return replace(self, repo=self.repo.rstrip("/").rpartition("/")[2]).public
        return self.public if self.local is None else replace(self, repo=self.local.resolve().name).public


def parse(uri: str, param: str) -> Location:
    """Split `dvc://REPO@REV#PATH` into its parts. Raises UserError naming the param for another form."""
    inner = uri.removeprefix("dvc://")
    where, _, path = inner.rpartition("#")
    login = re.match(r"\w+://[^/]*@", where) or _SCP.match(where)
    repo, at, rev = where[login.end() if login else 0 :].rpartition("@")
    if not at:
        repo, rev = rev, ""
    repo = where[: login.end() if login else 0] + repo
    check_repository(repo, f"{param}: dvc://{without_secrets(inner)}")
    parts = path.strip("/").split("/")
    if not repo or not path.strip("/") or ".." in parts or (at and not rev):
        raise UserError(f"{param}: dvc://{without_secrets(inner)}: not of the form {_FORM}")
    return Location(repo, rev or None, "/".join(parts))


def fetch(uri: str, downloads: Path, *, param: str, connections: int) -> Fetched:
    """Bring what a `dvc://` URI names to this machine, once per commit.

    Files that arrived whole stay where the work is cut off, for the next try.

    Raises: UserError: no such repository, revision, path or stored content; no access; content of another MD5.
    """
    location = parse(uri, param)
    with trusted_alone(location):
        return _fetch(location, downloads, connections)


def _fetch(location: Location, downloads: Path, connections: int) -> Fetched:
    """Bring the files of a location to this machine, from the cache or into it."""
    filesystem, commit = patiently(lambda: _open(location), location.public)
    folder = downloads / files.sha256_lines([without_secrets(location.repo), commit, location.path])[:32]
    path = folder / location.path.rpartition("/")[2]
    with fetching(folder, location.public):
        if not path.exists():
            contents = patiently(lambda: _contents(filesystem, location), location.public)
            check_names(location.public, contents, "", downloads)
            tree = folder / f"{path.name}.partial"
            note(f"fetching {location.public}, commit {commit[:10]}: {len(contents)} files")
            patiently(lambda: _get(filesystem, contents, tree, location, connections), location.public)
            (tree / location.path).replace(path)
            shutil.rmtree(tree)
    return Fetched(path, location.named, commit)


def resolve(uri: str, *, param: str) -> str:
    """Return the commit that a `dvc://` URI names now. Raises UserError as `fetch`."""
    location = parse(uri, param)
    with trusted_alone(location):
        return patiently(lambda: _open(location), location.public)[1]


@contextmanager
def trusted_alone(location: Location) -> Iterator[None]:
    """Let DVC use no setting of the repository's that could harm. Raises UserError where DVC isn't installed."""
    try:
        import dvc.api  # noqa: F401
    except ImportError:
        raise UserError(f"{location.public}: needs DVC; install segops with the extra 'local'") from None
    with distrusted():
        yield


def _open(location: Location) -> tuple[DVCFileSystem, str]:
    """Open the repository at the revision; return its files and its commit."""
    from dvc.api import DVCFileSystem

    local = location.local
    repo, rev = (str(local), location.rev or "HEAD") if local else (location.repo, location.rev)
    with _explained(location):
        filesystem = DVCFileSystem(repo, rev=rev)
        return filesystem, str(filesystem.repo.get_rev())


def _contents(filesystem: DVCFileSystem, location: Location) -> dict[str, str | None]:
    """Return the MD5 by path of the files at and below `location.path`; None where git holds the file."""
    with _explained(location):
        if filesystem.isfile(location.path):
            return {location.path: filesystem.info(location.path).get("md5")}
        infos = filesystem.find(location.path, detail=True)
    if not infos:
        raise UserError(f"{location.public}: {_NO_PATH}")
    return {path.lstrip("/"): info.get("md5") for path, info in sorted(infos.items())}


def _get(
    filesystem: DVCFileSystem, contents: dict[str, str | None], tree: Path, location: Location, connections: int
) -> None:
    """Fetch the files that aren't below `tree` in full, and check them."""
    missing = [path for path, md5 in contents.items() if md5 is None or _md5(tree / path) != md5]
    if missing:
        with _explained(location):
            filesystem.get(missing, [str(tree / path) for path in missing], batch_size=connections)
    for path in missing:
        if (md5 := contents[path]) is not None and (actual := _md5(tree / path)) != md5:
            raise UserError(
                f"{location.public}: {path} arrived with MD5 {actual}, the commit names {md5}; the stored file is "
                "damaged: push it again from a copy that is whole"
            )


def _md5(path: Path) -> str | None:
    return files.md5_file(path) if path.is_file() else None


@contextmanager
def _explained(location: Location) -> Iterator[None]:
    """Turn what DVC, git and storages raise into UserError, or into Interrupted where asking again may help."""
    from botocore.exceptions import BotoCoreError
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError

    try:
        with reworded(lambda text: f"{location.public}: {text}"):
            yield
    except OneLineError:
        raise
    except (DvcException, DataIndexDirError, OSError, BotoCoreError) as error:
        if (refusal := _refusal(error)) is not None:
            raise type(refusal)(f"{location.public}: {refusal}") from None
        if isinstance(error, DvcException):
            raise UserError(f"{location.public}: {_repository_fault(error, location)}") from None
        raise _storage_fault(error, location) from None
    except (RecursionError, LookupError, ValueError, TypeError, AttributeError) as error:
        reason = type(error).__name__ if isinstance(error, RecursionError) else _reason(error)
        raise UserError(
            f"{location.public}: its lists of files aren't DVC's ({reason}); correct the repository"
        ) from None


def _refusal(error: BaseException | None) -> OneLineError | None:
    """Find our own line among an error's causes, since DVC wraps what it meets."""
    while error is not None and not isinstance(error, OneLineError):
        error = error.__cause__ or error.__context__
    return error


def _storage_fault(error: Exception, location: Location) -> Exception:
    """Choose what to raise for a storage's fault, which may be the cause of a folder's whose list it didn't give."""
    from botocore import exceptions as aws
    from dvc_data.index import DataIndexDirError

    cause = error.__cause__ if isinstance(error, DataIndexDirError) else error
    if isinstance(cause, (PermissionError, aws.NoCredentialsError, aws.PartialCredentialsError, aws.ProfileNotFound)):
        return UserError(
            f"{location.public}: its DVC remote refuses access ({_reason(error)}); correct the credentials"
        )
    if isinstance(cause, FileNotFoundError):
        no_path = cause is error and "No storage files" not in str(error)
        return UserError(f"{location.public}: {_NO_PATH if no_path else _NOT_STORED}")
    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        return cause
    return Interrupted(_reason(error))


def _repository_fault(error: DvcException, location: Location) -> str:
    """Word a fault of git or DVC, with what to do."""
    from dvc.scm import CloneError, GitAuthError, RevError

    if isinstance(error, RevError):
        return f"there is no revision '{location.rev}'; name a branch, tag or commit"
    if isinstance(error, GitAuthError):
        return f"git refuses access ({_reason(error)}); correct its credentials"
    if isinstance(error, CloneError):
        return f"can't clone it ({_reason(error)}); correct the repository"
    return f"{_reason(error)}; correct the repository"


def _reason(error: BaseException) -> str:
    """Return the first line of what went wrong first, without logins."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    lines = without_secrets(str(error)).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
