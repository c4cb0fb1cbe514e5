"""Fetches archives and folders from S3 buckets.

Endpoint, region, credentials, CA bundle and proxies come from the standard AWS environment and files that boto3 reads.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segops.data.sources.download import Fetched, Interrupted, download, patiently
from segops.errors import UserError
from segops.files import sha256_lines
from segops.progress import track

_PIECE_BYTES = 2**18
_PAGE = 1000
_MD5 = re.compile(r"[0-9a-f]{32}")
_FIXES = {
    "404": "there is no such object; correct the URI",
    "NoSuchKey": "there is no such object; correct the URI",
    "NoSuchBucket": "there is no such bucket; correct the URI or AWS_ENDPOINT_URL",
    "403": "access denied; correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ask for s3:GetObject on it",
    "AccessDenied": "access denied; ask for s3:GetObject and s3:ListBucket on it",
    "SignatureDoesNotMatch": "the secret isn't the access key's; correct AWS_SECRET_ACCESS_KEY or AWS_ACCESS_KEY_ID",
    "InvalidAccessKeyId": "the access key is unknown; correct AWS_ACCESS_KEY_ID",
    "ExpiredToken": "the session token has expired; log in again (AWS_SESSION_TOKEN)",
    "InvalidToken": "the session token is not valid; correct or unset AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "PreconditionFailed": "the object changed while it was fetched; run the same command again",
    "412": "the object changed while it was fetched; run the same command again",
}
_REGION = {"301", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_PASSING = {"500", "502", "503", "504", "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "429"}


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
        etag: str = listed["ETag"].strip('"')
        self.revision: str = listed.get("VersionId") or etag
        self.md5: str | None = etag if _MD5.fullmatch(etag) else None  # of a multipart upload it is another kind of sum

    def read(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the bytes begin..end - 1 of the version that was found first."""
        with explained(self.uri):
            response = self._client.get_object(**self._where, Range=f"bytes={begin}-{end - 1}", IfMatch=self.version)
            if response.get("ServerSideEncryption", "").startswith("aws:kms"):
                self.md5 = None  # there the ETag is no MD5
            yield from response["Body"].iter_chunks(_PIECE_BYTES)


def fetch(uri: str, cache: Path, *, connections: int) -> Fetched:
    """Fetch an object, or everything below a prefix as a folder.

    Args:
        uri: `s3://bucket/archive.zip`, or `s3://bucket/prefix`: what lies below `prefix/`.
        connections: parts or objects fetched at the same time.

    Raises: UserError: see `_FIXES`; nothing below the prefix; a name that would leave the folder.
    """
    bucket, name = _parts(uri)
    client = _client(connections)
    if _is_file(name):
        remote = patiently(lambda: S3Object(client, bucket, name), uri)
        return Fetched(download(remote, cache, connections=connections), uri, remote.revision)
    return _fetch_prefix(client, bucket, name, cache, connections)


def state(uri: str) -> str:
    """Return what names the present content of an object or a prefix: `Fetched.revision` of `fetch`.

    Raises: UserError as `fetch`.
    """
    bucket, name = _parts(uri)
    client = _client(1)
    if _is_file(name):
        return patiently(lambda: S3Object(client, bucket, name), uri).revision
    return _prefix_state(_listed(client, bucket, name))


def _parts(uri: str) -> tuple[str, str]:
    """Split a URI into the bucket, and the object's name or the prefix with a slash at its end."""
    bucket, _, name = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise UserError(f"ingest.source: {uri}: no bucket; write s3://bucket/archive.zip or s3://bucket/folder")
    return bucket, name if _is_file(name) or not name else f"{name.rstrip('/')}/"


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
    revision = _prefix_state(listed)
    folder = cache / sha256_lines([str(client.meta.endpoint_url), uri, revision])[:32]
    partial = folder.with_name(f"{folder.name}.partial")
    if not folder.is_dir():
        partial.mkdir(parents=True, exist_ok=True)

        def fetch_object(name: str) -> None:
            target = partial / name.removeprefix(prefix)
            if not target.is_file():
                path = download(S3Object(client, bucket, name, listed[name]), cache, connections=1, quiet=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
                shutil.rmtree(path.parent)

        with ThreadPoolExecutor(connections) as pool:
            for _ in track(pool.map(fetch_object, listed), f"fetch {uri}", total=len(listed)):
                pass
        partial.replace(folder)
    return Fetched(folder, uri, revision)


def _list(client: Any, bucket: str, prefix: str, uri: str) -> dict[str, dict[str, Any]]:
    """List ETag and Size by name of every object below a prefix, sorted by name, without the empty marks of folders."""
    objects: dict[str, dict[str, Any]] = {}
    with explained(uri):
        for page in client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": _PAGE}
        ):
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):
                    objects[entry["Key"]] = {"ETag": entry["ETag"], "Size": entry["Size"]}
    for name in objects:
        parts = name.removeprefix(prefix).split("/")
        if {"", ".", ".."} & set(parts) or "\\" in name:
            raise UserError(f"s3://{bucket}/{name}: a name that is no path on a disk; rename the object")
    return dict(sorted(objects.items()))


def _client(connections: int) -> Any:
    """Make boto3's client. Raises UserError for unusable AWS settings."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    retries = {"mode": "standard", "total_max_attempts": 2}  # ours come on top, and resume at the byte reached
    config = Config(retries=retries, max_pool_connections=connections + 2, connect_timeout=10, read_timeout=60)
    try:
        return boto3.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise UserError(f"AWS settings of the environment can't be used: {_line(error)}; correct them") from None


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what boto3 raises into Interrupted, or into a UserError with the fix where asking again can't help."""
    from botocore import exceptions as aws
    from urllib3.exceptions import HTTPError

    try:
        yield
    except aws.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        if code in _PASSING or status in _PASSING:
            raise Interrupted(f"the server answered {status} {code}".rstrip()) from None
        if code in _REGION or status == "301":
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            region = headers.get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region") or "its region"
            raise UserError(f"{uri}: the bucket is in another region; set AWS_REGION to {region}") from None
        fix = _FIXES.get(code) or _FIXES.get(status) or _line(error)
        raise UserError(f"{uri}: {fix}") from None
    except aws.NoCredentialsError:
        raise UserError(
            f"{uri}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        ) from None
    except aws.SSLError as error:
        raise UserError(f"{uri}: TLS certificate not accepted ({_line(error)}); set AWS_CA_BUNDLE") from None
    except (aws.ParamValidationError, aws.NoRegionError, aws.ProfileNotFound) as error:
        raise UserError(f"{uri}: {_line(error)}") from None
    except (aws.HTTPClientError, aws.BotoCoreError, HTTPError) as error:
        raise Interrupted(_line(error)) from None


def _line(error: Exception) -> str:
    """Return an error's text in a line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
