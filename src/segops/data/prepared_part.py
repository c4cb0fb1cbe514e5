"""Lays the flat files that were decoded of ranges of shards one after another."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from segops.contracts.pixels import StoredObject
from segops.data.decode_shard import PARTS, DecodedShard
from segops.data.intensities import ChannelSums, ImageValues

CLASSES = (DecodedShard, ImageValues, ChannelSums, StoredObject)


def join_files(parts: Sequence[Path], folder: Path) -> None:
    """Lay the parts' stretches of flat files one after another."""
    for file in PARTS.values():
        with (folder / file).open("wb") as whole:
            for part in parts:
                with (part / file).open("rb") as stretch:
                    shutil.copyfileobj(stretch, whole, 2**22)
