"""Fetches archives and folders from lakeFS: git's branches, tags and commits over an S3 bucket.

A reference is resolved to its commit by lakeFS's API, and the commit is read by its S3 gateway, whose buckets are
repositories and whose objects' names begin with a reference. Endpoint and keys come from the environment variables of
lakeFS's own clients.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from segops.data.sources import s3
from segops.data.sources.download import Fetched, Interrupted, patiently
from segops.data.sources.http import network
from segops.errors import UserError, reworded
from segops.progress import say
from segops.secrets import channel_fault, without_secrets

ENDPOINT = "LAKECTL_SERVER_ENDPOINT_URL"
KEY, SECRET = "LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"
_KEYS = f"{KEY} and {SECRET}"
_COMMIT = re.compile(r"[0-9a-f]{64}")
_TIMEOUT_S = (10, 20)  # to connect, and between bytes
_FAULTS = {
    400: "no repository or reference can have this name; correct the URI",
    401: f"the key or its secret is unknown; correct {_KEYS}",
    403: "access denied; ask for fs:ReadCommit, fs:ReadObject and fs:ListObjects on the repository",
    404: "there is no such repository, branch, tag or commit; correct the URI",
    410: "the repository is being deleted; correct the URI",
}
# What the S3 code says of its own settings, and what it means here.
_WORDS = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_ENDPOINT_URL": ENDPOINT,
    "s3:GetObject": "fs:ReadObject",
    "s3:ListBucket": "fs:ListObjects",
    "bucket": "repository",
    "s3://": "lakefs://",
}


class _Server(NamedTuple):
    """Where lakeFS is, and who asks."""

    endpoint: str
    key: str
    secret: str


class _Place(NamedTuple):
    """What a URI names."""

    repository: str
    reference: str
    path: str


def fetch(uri: str, cache: Path, *, param: str, connections: int) -> Fetched:
    """Fetch an object, or everything below a path as a folder, as its reference's last commit has it.

    What a branch holds uncommitted isn't in it: no name would find it again.

    Args:
        uri: `lakefs://repository/reference/archive.zip`, or `lakefs://repository/reference/folder`; a reference is a
            branch, a tag, a commit, or one before these (`main~1`).
        param: named in messages.
        connections: parts or objects fetched at the same time.

    Raises: UserError: no settings, no such place, no access, what `s3.fetch` raises. Returns: the commit as revision.
    """
    place = _place(uri, param)
    server = _server(uri)
    commit = _commit(server, place, uri)
    if commit != place.reference:
        say(f"{uri}: {place.reference} is commit {commit}; what isn't committed isn't in it")
    with _worded():
        client = s3.make_client(connections, (server.endpoint, server.key, server.secret))
        fetched = s3.fetch_from(client, place.repository, f"{commit}/{place.path}", cache, connections=connections)
    return Fetched(fetched.path, uri, commit)


def resolve(uri: str, *, param: str) -> str:
    """Return the commit that a URI's reference is now. Raises UserError as `fetch`."""
    return _commit(_server(uri), _place(uri, param), uri)


def _place(uri: str, param: str) -> _Place:
    """Split a URI into repository, reference and path."""
    repository, _, rest = uri.removeprefix("lakefs://").partition("/")
    reference, _, path = rest.partition("/")
    if not repository or not reference:
        raise UserError(
            f"{param}: {uri}: write lakefs://repository/branch/archive.zip or lakefs://repository/branch/folder"
        )
    return _Place(repository, reference, path)


def _server(uri: str) -> _Server:
    """Read lakeFS's settings from the environment. Raises UserError where they are missing or would leak the secret."""
    values = {name: os.environ.get(name, "") for name in (ENDPOINT, KEY, SECRET)}
    if missing := [name for name, value in values.items() if not value]:
        raise UserError(f"{uri}: {' and '.join(missing)} isn't set; set it as for lakeFS's own clients")
    endpoint = values[ENDPOINT].rstrip("/").removesuffix("/api/v1")
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise UserError(
            f"{ENDPOINT} is {without_secrets(endpoint)}; write https://host, or http:// for a test's server"
        )
    if (fault := channel_fault(endpoint, f"the secret of {SECRET}")) is not None:
        raise UserError(fault)
    return _Server(endpoint, values[KEY], values[SECRET])


def _commit(server: _Server, place: _Place, uri: str) -> str:
    """Ask for the commit that a reference is now."""
    url = (
        f"{server.endpoint}/api/v1/repositories/{quote(place.repository, safe='')}"
        f"/commits/{quote(place.reference, safe='')}"
    )
    return patiently(lambda: _ask(url, server, uri), uri)


def _ask(url: str, server: _Server, uri: str) -> str:
    import requests

    with network(uri):
        answer = requests.get(url, auth=(server.key, server.secret), timeout=_TIMEOUT_S, allow_redirects=False)
    status = answer.status_code
    if status in (408, 425, 429) or status >= 500:
        raise Interrupted(f"lakeFS answered {status}")
    if status in _FAULTS:
        raise UserError(f"{uri}: {_FAULTS[status]}")
    try:
        commit = answer.json()["id"]
    except (ValueError, KeyError, TypeError):
        commit = None
    if status != 200 or not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise UserError(f"{uri}: what answers isn't lakeFS; correct {ENDPOINT}")
    return commit


@contextmanager
def _worded() -> Iterator[None]:
    """Say what S3's code complains of in lakeFS's words."""
    with reworded(lambda text: reduce(lambda said, words: said.replace(*words), _WORDS.items(), text)):
        yield
