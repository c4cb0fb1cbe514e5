"""Defines shards.json, which stands in a dataset whose shards are kept in a bucket."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract, Sha256
from segops.contracts.dataset import Shard

STRETCHES_FILE = "stretches.parquet"

# STRETCHES_FILE: one row per example that a shard holds, in the shards' order; bytes of its tar.
STRETCHES_COLUMNS = {"shard": "str", "image_id": "str", "offset": "int64", "size_bytes": "int64", "sha256": "str"}


class StoredShards(Contract):
    """shards.json: where the shards that dataset.json lists are, by their hashes, instead of beside it.

    `stretches.parquet` says which bytes of a shard are an example's, with their hash.
    """

    FILE: ClassVar[str] = "shards.json"
    bucket: str
    prefix: str
    stretches_sha256: Sha256 = Field(description="of stretches.parquet")

    def key(self, shard: Shard) -> str:
        """Return the name of a shard's object."""
        return shard_key(self.prefix, shard)


def shard_key(prefix: str, shard: Shard) -> str:
    """Return the name of a shard's object below a prefix of a bucket."""
    return "/".join(filter(None, (prefix, f"{shard.sha256}.tar")))
