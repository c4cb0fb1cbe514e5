"""Defines pixels.json, which stands in a prepared folder whose pixels are kept in a bucket."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract
from segops.params.section import Value


class StoredObject(Value):
    """A part of a flat file, as an object of the bucket."""

    key: str
    size_bytes: int = Field(ge=1)


class StoredFile(Value):
    """A flat file of prepared pixels, in objects one after another, each of a single shard's arrays."""

    objects: list[StoredObject]

    @property
    def size_bytes(self) -> int:
        """The size of the whole file."""
        return sum(part.size_bytes for part in self.objects)


class StoredPixels(Contract):
    """pixels.json: where images.bin, masks.bin and objects.bin are instead of beside it."""

    FILE: ClassVar[str] = "pixels.json"
    bucket: str
    files: dict[str, StoredFile]
