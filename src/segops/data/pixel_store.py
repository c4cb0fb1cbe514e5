"""Keeps prepared pixels in a bucket, for data that no disk holds: written in parts, read array by array.

SEGOPS_PIXEL_STORE (`s3://bucket/prefix`) says where `prepare` puts them; without it they are files beside
prepared.json. Where pixels are changes nothing that is computed from them, so it is no param.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from segops.contracts.pixels import StoredFile, StoredObject, StoredPixels
from segops.data.sources.download import patiently
from segops.data.sources.s3_errors import explained
from segops.data.stored_bytes import bucket_of, bucket_place, store_client
from segops.files import MIB

PLACE = "SEGOPS_PIXEL_STORE"
OBJECT_BYTES = 256 * MIB


def place() -> str | None:
    """Return where pixels are to be kept; None: in files. Raises UserError for anything but a bucket."""
    return bucket_place(PLACE)


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
                store_client().upload_fileobj(_Unclosed(part), self.bucket, key)

        patiently(put, f"s3://{self.bucket}/{key}")
        self.objects[name].append(StoredObject(key=key, size_bytes=size_bytes))
        part.seek(0)
        part.truncate()


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
