"""Defines what a part of prepare writes: the arrays of a range of shards, before they are joined."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract, Sha256
from segops.contracts.pixels import StoredObject


class PreparedPart(Contract):
    """part.json: a range of a dataset's shards, decoded.

    Beside it are the range's stretches of images.bin, masks.bin and objects.bin, unless they are in a bucket, and
    arrays.npz: where each array begins in the whole files, and the intensities of training images.
    """

    FILE: ClassVar[str] = "part.json"
    number: int = Field(ge=0)
    parts: int = Field(ge=1, description="how many there are")
    manifest_sha256: Sha256
    assignment_sha256: Sha256
    objects: dict[str, list[StoredObject]] = Field(description="of a bucket, by flat file; empty: files beside it")
