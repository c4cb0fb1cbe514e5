"""Keeps prepared pixels in a bucket, for data that no disk holds: written in parts, read array by array.

SEGOPS_PIXEL_STORE (`s3://bucket/prefix`) says where `prepare` puts them; without it they are files beside
prepared.json. Where pixels are changes nothing that is computed from them, so it is no param. Endpoint and keys are
boto3's own. SEGOPS_PIXEL_CACHE_GIB bounds what readers keep of them on a disk, 8 by default.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import numpy as np

from segops.contracts.pixels import StoredFile, StoredObject, StoredPixels
from segops.data.pixel_cache import PixelCache
from segops.data.sources.download import patiently
from segops.data.sources.s3 import make_client
from segops.data.sources.s3_errors import explained
from segops.errors import UserError
from segops.files import GIB, MIB, project_root, sha256_lines

PLACE, CACHE_GIB = "SEGOPS_PIXEL_STORE", "SEGOPS_PIXEL_CACHE_GIB"
OBJECT_BYTES = 256 * MIB
_CONNECTIONS = 8


def place() -> str | None:
    """Return where pixels are to be kept; None: in files. Raises UserError for anything but a bucket."""
    uri = os.environ.get(PLACE)
    if uri and not (uri.startswith("s3://") and uri.removeprefix("s3://").partition("/")[0]):
        raise UserError(f"{PLACE} is {uri}; write s3://bucket/prefix, or leave it unset to keep pixels in files")
    return uri or None


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


class StoreWriter:
    """Takes a shard's stretches of flat files, part by part, to a bucket.

    Args:
        uri: `s3://bucket/prefix`.
        name: what the data are, below the prefix.
        shard: the shard's number.

    Attributes:
        objects: those that were put, by flat file.
    """

    def __init__(self, uri: str, name: str, shard: int) -> None:
        self.bucket, prefix = bucket_of(uri)
        self._prefix, self._shard = "/".join([*filter(None, [prefix]), name]), shard
        self._client = make_client(_CONNECTIONS)
        self.objects: dict[str, list[StoredObject]] = {}

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a stretch of a flat file to append to; it is complete when the block ends without an error."""
        self.objects[name] = []
        with TemporaryFile() as part:
            yield _Parts(part, lambda: self._put(name, part))  # type: ignore[misc]
            self._put(name, part)

    def _put(self, name: str, part: IO[bytes]) -> None:
        """Put what a part has collected as the file's next object, and empty it."""
        if not (size_bytes := part.tell()):
            return
        key = f"{self._prefix}/{name}.{self._shard:05d}.{len(self.objects[name]):05d}"

        def put() -> None:
            part.seek(0)
            with explained(f"s3://{self.bucket}/{key}"):
                self._client.upload_fileobj(_Unclosed(part), self.bucket, key)

        patiently(put, f"s3://{self.bucket}/{key}")
        self.objects[name].append(StoredObject(key=key, size_bytes=size_bytes))
        part.seek(0)
        part.truncate()


def bucket_of(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/prefix` into bucket and prefix."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")


def save_places(folder: Path, uri: str, objects: dict[str, list[StoredObject]]) -> None:
    """Write pixels.json: the objects of each flat file, in the file's order."""
    files = {name: StoredFile(objects=parts) for name, parts in objects.items()}
    StoredPixels(bucket=bucket_of(uri)[0], files=files).save(folder)


class _Parts:
    """A file that is taken away each time it has grown large enough."""

    def __init__(self, part: IO[bytes], take: Any) -> None:
        self._part, self._take = part, take

    def write(self, content: bytes | memoryview) -> int:
        written = self._part.write(content)
        if self._part.tell() >= OBJECT_BYTES:
            self._take()
        return written


class _Unclosed:
    """A file that boto3 reads and can't close, as it does with what it is given."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return (lambda: None) if name == "close" else getattr(self._file, name)


class StoredBytes:
    """A flat file in a bucket, of which slices are read that are whole arrays; each is held against its digest.

    Args:
        folder: the prepared folder, with pixels.json.
        name: of the flat file.
        arrays: their hashes, by where they begin, bytes.
    """

    def __init__(self, folder: Path, name: str, arrays: dict[int, ArrayHash]) -> None:
        about = StoredPixels.load(folder)
        self._file, self._bucket, self._arrays = about.files[name], about.bucket, arrays
        self._begins = [0, *accumulate(part.size_bytes for part in self._file.objects)]
        limit = _cache_gib() * GIB
        own = sha256_lines([self._bucket, name, self._file.model_dump_json()])[:16]
        self._cache = PixelCache(project_root() / ".segops" / "pixels" / own, int(limit))

    @cached_property
    def _client(self) -> Any:
        return make_client(_CONNECTIONS)

    def __len__(self) -> int:
        return self._file.size_bytes

    def __getitem__(self, span: slice) -> np.ndarray:
        """Return the bytes of an array, uint8."""
        return np.frombuffer(self._bytes(span.start, span.stop), np.uint8)

    def fetch(self, spans: Iterable[tuple[int, int]]) -> None:
        """Bring several arrays into the cache at once."""
        missing = [span for span in spans if span[0] not in self._cache]
        if len(missing) > 1:
            with ThreadPoolExecutor(_CONNECTIONS) as pool:
                list(pool.map(lambda span: self._bytes(*span), missing))

    def _bytes(self, begin: int, end: int) -> bytes:
        """Return an array's bytes from the cache, or from the bucket into it."""
        kept, wanted = self._cache.get(begin), self._arrays[begin]
        if kept is not None and wanted.fits(kept):
            return kept
        content = b"".join(self._ranges(begin, end))
        if not wanted.fits(content):
            key = self._part_at(begin).key
            raise UserError(f"s3://{self._bucket}/{key}: isn't what prepare put there; run `segops prepare` again")
        self._cache.put(begin, content)
        return content

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
                    body: bytes = self._client.get_object(Bucket=self._bucket, Key=part.key, Range=span)["Body"].read()
                    return body

            yield patiently(read, uri)
            begin = stop
