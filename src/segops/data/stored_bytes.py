"""Reads files that lie in a bucket: slices that are whole arrays, each checked, through a cache of bounded size.

Endpoint and keys are boto3's own. SEGOPS_PIXEL_CACHE_GIB bounds what readers keep on a disk, 8 by default.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from segops.contracts.pixels import StoredFile, StoredObject
from segops.data.pixel_cache import PixelCache
from segops.data.sources.download import patiently
from segops.data.sources.s3 import make_client
from segops.data.sources.s3_errors import explained
from segops.errors import UserError
from segops.files import GIB, MIB, project_root, sha256_lines

CACHE_GIB = "SEGOPS_PIXEL_CACHE_GIB"
CONNECTIONS = 8
_RUN_BYTES = 8 * MIB  # that are fetched together, at most


def bucket_place(variable: str) -> str | None:
    """Return the bucket that an environment variable names; None: none. Raises UserError for anything else."""
    uri = os.environ.get(variable)
    if uri and not (uri.startswith("s3://") and bucket_of(uri)[0]):
        raise UserError(f"{variable} is {uri}; write s3://bucket/prefix, or leave it unset to keep files on the disk")
    return uri or None


def bucket_of(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/prefix` into bucket and prefix."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")


def store_client() -> Any:
    """Return this process's client for stores, made anew where the environment names another server or key.

    Making one takes 80 ms of CPU time, as much as decoding two images.
    """
    # A process that was forked gets connections of its own.
    return _client_of(os.getpid(), tuple(item for item in os.environ.items() if item[0].startswith("AWS_")))


@lru_cache(maxsize=1)
def _client_of(*_: Any) -> Any:
    return make_client(CONNECTIONS)


def _cache_gib() -> float:
    """Return the size of a reader's cache. Raises UserError where the environment gives no number."""
    text = os.environ.get(CACHE_GIB, "8")
    try:
        return max(0.0, float(text))
    except ValueError:
        raise UserError(f"{CACHE_GIB} is {text}; write a number of GiB") from None


class ArrayHash(NamedTuple):
    """The SHA-256 of a head and an array's bytes."""

    head: bytes
    sha256: str

    def fits(self, content: bytes) -> bool:
        """Return whether these are the array's bytes."""
        digest = hashlib.sha256(self.head)
        digest.update(content)
        return digest.hexdigest() == self.sha256


class StoredBytes:
    """A flat file in a bucket, of which slices are read that are whole arrays; each is held against its digest.

    Args:
        bucket: holds the file's objects.
        file: its objects.
        arrays: their hashes, by where they begin, bytes.
        cache: a name for what is kept of it on the disk; the file's own is added.
        fix: what to do where the objects are others.
    """

    def __init__(self, bucket: str, file: StoredFile, arrays: dict[int, ArrayHash], *, cache: str, fix: str) -> None:
        self._file, self._bucket, self._arrays, self._fix = file, bucket, arrays, fix
        self._begins = [0, *accumulate(part.size_bytes for part in self._file.objects)]
        limit = _cache_gib() * GIB
        own = sha256_lines([self._bucket, cache, self._file.model_dump_json()])[:16]
        self._cache = PixelCache(project_root() / ".segops" / "pixels" / own, int(limit))

    def __len__(self) -> int:
        return self._file.size_bytes

    def __getitem__(self, span: slice) -> np.ndarray:
        """Return the bytes of an array, uint8."""
        return np.frombuffer(self._bytes(span.start, span.stop), np.uint8)

    def fetch(self, spans: Iterable[tuple[int, int]]) -> None:
        """Bring several arrays into the cache at once."""
        missing = [span for span in spans if span[0] not in self._cache]
        if len(missing) > 1:
            store_client()  # before threads make one each
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                list(pool.map(lambda span: self._bytes(*span), missing))

    def _bytes(self, begin: int, end: int) -> bytes:
        """Return an array's bytes from the cache, or from the bucket into it."""
        kept, wanted = self._cache.get(begin), self._arrays[begin]
        if kept is not None and wanted.fits(kept):
            return kept
        content = b"".join(self._ranges(begin, end))
        self._keep(begin, content)
        return content

    def _keep(self, begin: int, content: bytes) -> None:
        """Put an array into the cache. Raises UserError where it isn't the one that was put into the bucket."""
        if not self._arrays[begin].fits(content):
            key = self._part_at(begin).key
            raise UserError(f"s3://{self._bucket}/{key}: isn't what was put there; {self._fix}")
        self._cache.put(begin, content)

    def in_turn(self, spans: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """Yield several arrays; those that are missing and touch each other are fetched together."""
        run: list[tuple[int, int]] = []
        for span in spans:
            touches = bool(run) and run[-1][1] == span[0] and span[1] - run[0][0] <= _RUN_BYTES
            missing = span[0] not in self._cache
            if run and not (touches and missing):
                yield from self._run(run)
                run = []
            if missing:
                run.append(span)
            else:
                yield self._bytes(*span)
        if run:
            yield from self._run(run)

    def _run(self, run: list[tuple[int, int]]) -> list[bytes]:
        """Fetch arrays that touch each other."""
        first = run[0][0]
        content = b"".join(self._ranges(first, run[-1][1]))
        pieces = [content[begin - first : end - first] for begin, end in run]
        for (begin, _), piece in zip(run, pieces, strict=True):
            self._keep(begin, piece)
        return pieces

    def _part_at(self, offset: int) -> StoredObject:
        return self._file.objects[bisect_right(self._begins, offset) - 1]

    def _ranges(self, begin: int, end: int) -> Iterator[bytes]:
        """Read from all objects that a span lies in."""
        while begin < end:
            part = self._part_at(begin)
            first = self._begins[bisect_right(self._begins, begin) - 1]
            stop = min(end, first + part.size_bytes)
            uri, span = f"s3://{self._bucket}/{part.key}", f"bytes={begin - first}-{stop - first - 1}"

            def read(part: StoredObject = part, uri: str = uri, span: str = span) -> bytes:
                with explained(uri):
                    answer = store_client().get_object(Bucket=self._bucket, Key=part.key, Range=span)
                    body: bytes = answer["Body"].read()
                    return body

            yield patiently(read, uri)
            begin = stop
