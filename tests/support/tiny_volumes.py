"""Small prepared volumes, through the real stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segops.data.arrays import PreparedData
from segops.data.sources.organs import CLASSES, Organs
from segops.params.ingest import IngestParams
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from tests.support.factories import ingest_params, tiny_split

QUERY = Organs(n=8, size=24, depth=10, seed=3)


def organ_params(query: Organs = QUERY, **changes: Any) -> IngestParams:
    """The params of ingest of drawn patients."""
    return ingest_params(query.uri, dimensions=3, mask_values=CLASSES, modality="MR", **changes)


def prepared_volumes(folder: Path, query: Organs = QUERY) -> PreparedData:
    """Prepare drawn patients below a folder: `dataset`, `split` and `prepared`."""
    ingest(organ_params(query), dataset=folder / "dataset")
    split = tiny_split(folder / "dataset", folder / "split")
    prepare(dataset=folder / "dataset", split=split, prepared=folder / "prepared")
    return PreparedData.open(folder / "prepared")
