"""Fetches archives and folders from S3 buckets.

Endpoint, region, credentials, CA bundle and proxies come from the standard AWS environment and files that boto3 reads.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from segops.data.sources import etags
from segops.data.sources.download import Fetched, Interrupted, download, fetching, patiently
from segops.data.sources.names import check_names
from segops.data.sources.s3_errors import explained, line
from segops.errors import UserError
from segops.files import sha256_lines
from segops.progress import counted, say, track

_PIECE_BYTES = 2**18
_PAGE = 1000
_NO_PARTS = (400, 403, 404, 405, 416, 501)  # what servers say that know no parts
_CONNECT_S, _READ_S = 10, 20  # without a byte


class S3Object:
    """An object in a bucket. Raises UserError or Interrupted when the server doesn't give it."""

    def __init__(self, client: Any, bucket: str, name: str, listed: dict[str, Any] | None = None) -> None:
        """Ask for the object, unless a listing (ETag, Size) has told what there is to know."""
        self.uri = f"s3://{bucket}/{name}"
        self.ranges = True
        self.key = f"{client.meta.endpoint_url} {self.uri}"
        self._client, self._where = client, {"Bucket": bucket, "Key": name}
        if listed is None:
            with explained(self.uri):
                head = client.get_object(**self._where)  # the answer to HEAD would not say why it refuses
                head["Body"].close()
                listed = {"Size": head["ContentLength"], "ETag": head["ETag"], "VersionId": head.get("VersionId")}
        self.size_bytes: int = listed["Size"]
        self.version: str | None = listed["ETag"]
        self._etag: str = listed["ETag"].strip('"')
        self.revision: str = listed.get("VersionId") or self._etag
        self.unchecked: str | None = None  # why the content couldn't be held against the ETag

    def read(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the bytes begin..end - 1 of the version that was found first."""
        with explained(self.uri):
            response = self._client.get_object(**self._where, Range=f"bytes={begin}-{end - 1}", IfMatch=self.version)
            span = response.get("ContentRange", f"bytes {begin}-{end - 1}/{self.size_bytes}")
            if span != f"bytes {begin}-{end - 1}/{self.size_bytes}":
                raise Interrupted(f"it sent {span}, of {self.size_bytes} bytes as it said first")
            yield from response["Body"].iter_chunks(_PIECE_BYTES)

    def check(self, path: Path) -> str | None:
        """Hold a fetched file against the ETag; return why that can't be done. Raises UserError where they differ."""
        differs = patiently(lambda: etags.differs(path, self._etag, self._part_size), self.uri)
        if differs and patiently(self._by_kms, self.uri):
            self.unchecked = "encrypted by KMS, it has no sum that names its content"
        elif differs:
            raise UserError(
                f"{self.uri}: what arrived isn't what the server's ETag {self._etag} was made of; it was removed: run "
                "the same command again"
            )
        elif differs is None:
            self.unchecked = f"the parts of its ETag {self._etag} aren't known"
        return self.unchecked

    def _by_kms(self) -> bool:
        """Ask whether the server keeps it encrypted by a key of its own service: then an ETag is no MD5."""
        with explained(self.uri):
            return str(self._client.head_object(**self._where).get("ServerSideEncryption", "")).startswith("aws:kms")

    def _part_size(self, number: int) -> int | None:
        """Ask for the size of a part of the upload, bytes; None where the server doesn't tell."""
        from botocore.exceptions import ClientError

        with explained(self.uri):
            try:
                head = self._client.head_object(**self._where, PartNumber=number)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] in _NO_PARTS:
                    return None
                raise
        parts = int(self._etag.rpartition("-")[2])
        return int(head["ContentLength"]) if head.get("PartsCount") == parts else None


def fetch(uri: str, cache: Path, *, connections: int) -> Fetched:
    """Fetch an object, or everything below a prefix as a folder.

    Args:
        uri: `s3://bucket/archive.zip`, or `s3://bucket/prefix`: what lies below `prefix/`.
        connections: parts or objects fetched at the same time.

    Raises: UserError: see `_FIXES`; nothing below the prefix; a name that would leave the folder.
    """
    bucket, name = _parts(uri)
    return fetch_from(make_client(connections), bucket, name, cache, connections=connections)


def fetch_from(client: Any, bucket: str, name: str, cache: Path, *, connections: int) -> Fetched:
    """Fetch an object, or everything below a prefix, by a client that is there; see `fetch`."""
    if not _is_file(name):
        return _fetch_prefix(client, bucket, _as_prefix(name), cache, connections)
    uri = f"s3://{bucket}/{name}"
    remote = patiently(lambda: S3Object(client, bucket, name), uri)
    return Fetched(download(remote, cache, connections=connections), uri, remote.revision)


def state(uri: str) -> str:
    """Return what names the present content of an object or a prefix: `Fetched.revision` of `fetch`.

    Raises: UserError as `fetch`.
    """
    bucket, name = _parts(uri)
    client = make_client(1)
    if _is_file(name):
        return patiently(lambda: S3Object(client, bucket, name), uri).revision
    return _prefix_state(_listed(client, bucket, _as_prefix(name)))


def _parts(uri: str) -> tuple[str, str]:
    """Split a URI into the bucket, and the name of an object or a prefix."""
    bucket, _, name = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise UserError(f"ingest.source: {uri}: no bucket; write s3://bucket/archive.zip or s3://bucket/folder")
    return bucket, name


def _as_prefix(name: str) -> str:
    """Return a name with a slash at its end, so that `raw` isn't `raw2` too; nothing names the whole bucket."""
    return f"{name.rstrip('/')}/" if name else name


def _is_file(name: str) -> bool:
    """Return whether a name ends as an archive or a weights file does; another is a prefix."""
    return re.search(r"\.(zip|tar|tar\.gz|tgz|safetensors)$", name.lower()) is not None


def _listed(client: Any, bucket: str, prefix: str) -> dict[str, dict[str, Any]]:
    """Return ETag and Size by name of every object below a prefix. Raises UserError where there is none."""
    uri = f"s3://{bucket}/{prefix}"
    listed = patiently(lambda: _list(client, bucket, prefix, uri), uri)
    if not listed:
        raise UserError(f"ingest.source: {uri}: nothing stands below it; correct the prefix")
    return listed


def _prefix_state(listed: dict[str, dict[str, Any]]) -> str:
    """Hash names and ETags of a listing."""
    return sha256_lines(f"{name} {about['ETag']}" for name, about in listed.items())


def _fetch_prefix(client: Any, bucket: str, prefix: str, cache: Path, connections: int) -> Fetched:
    """Fetch the objects below a prefix, each from the cache or into it, and collect them in a folder."""
    uri, listed = f"s3://{bucket}/{prefix}", _listed(client, bucket, prefix)
    check_names(f"s3://{bucket}", listed, prefix, cache)
    revision = _prefix_state(listed)
    folder = cache / sha256_lines([str(client.meta.endpoint_url), uri, revision])[:32]
    partial, parts = (folder.with_name(f"{folder.name}.{suffix}") for suffix in ("partial", "parts"))
    unchecked: list[str] = []

    def fetch_object(name: str) -> None:
        target = partial / name.removeprefix(prefix)
        if not target.is_file():
            remote = S3Object(client, bucket, name, listed[name])
            path = download(remote, parts, connections=1, quiet=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            if remote.unchecked:
                unchecked.append(remote.unchecked)

    with fetching(folder, uri):
        if not folder.is_dir():
            partial.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(connections) as pool:
                for _ in track(pool.map(fetch_object, listed), f"fetch {uri}", total=len(listed)):
                    pass
            if unchecked:
                say(
                    f"{uri}: {counted(len(unchecked), 'object')} not checked against the server's copy ({unchecked[0]})"
                )
            partial.replace(folder)
            shutil.rmtree(parts, ignore_errors=True)
    return Fetched(folder, uri, revision)


def _list(client: Any, bucket: str, prefix: str, uri: str) -> dict[str, dict[str, Any]]:
    """List ETag and Size by name of every object below a prefix, sorted by name, without the empty marks of folders."""
    objects: dict[str, dict[str, Any]] = {}
    with explained(uri):
        for page in client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": _PAGE}
        ):
            if page["IsTruncated"] not in (True, False) or page["Name"] != bucket:
                raise KeyError("Name")  # what isn't a listing would be an empty one
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):
                    objects[entry["Key"]] = {"ETag": entry["ETag"], "Size": entry["Size"]}
    return dict(sorted(objects.items()))


def make_client(connections: int, server: tuple[str, str, str] | None = None) -> Any:
    """Make boto3's client. Raises UserError for unusable AWS settings.

    Args:
        connections: at the same time.
        server: endpoint, access key and secret of a server that isn't the environment's.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},  # ours say a word, and resume at the byte reached
        max_pool_connections=connections + 2,
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        s3={"addressing_style": "path"} if server else None,
    )
    settings = {}
    if server is not None:
        names = ("endpoint_url", "aws_access_key_id", "aws_secret_access_key", "region_name")
        settings = dict(zip(names, (*server, "us-east-1"), strict=True))
    try:
        return boto3.Session().client("s3", config=config, **settings)
    except (BotoCoreError, ValueError) as error:
        raise UserError(f"AWS settings of the environment can't be used: {line(error)}; correct them") from None
