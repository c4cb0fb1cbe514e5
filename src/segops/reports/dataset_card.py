"""dataset_card.md: what a data set is made of, from its fingerprint, its validation report and its split.

Sections are those of Gebru et al. 2021, "Datasheets for Datasets". Nothing is typed by hand but what ingest's params
say (name, licence, source); what the files don't know is said to be unknown.
"""

from __future__ import annotations

from segops.contracts.base import SUBSETS
from segops.contracts.dataset import Dataset
from segops.contracts.split import Split
from segops.contracts.validation import ValidationReport
from segops.files import MIB
from segops.reports.markdown import link
from segops.reports.pages import render

_MOST = 6  # lines of a list


def dataset_card(data: Dataset, checked: ValidationReport, split: Split) -> str:
    """Write the data set's card as markdown; the same contracts give the same card."""
    return render(
        "dataset_card.md.j2",
        data=data,
        checked=checked,
        split=split,
        subsets=SUBSETS,
        most=_MOST,
        source=link(data.source, data.source),
        failed=[expectation for expectation in checked.expectations if not expectation.success],
        modalities=counts(data.modalities),
        sizes=counts(data.sizes),
        channels=counts(data.channels),
        dtypes=counts(data.dtypes),
        own_units=any(dtype in ("int16", "float32") for dtype in data.dtypes),
        mib=sum(shard.size_bytes for shard in data.shards) / MIB,
        counts=counts,
    )


def counts(images: dict[str, int]) -> str:
    """Write the most frequent first, and how many others: `fluorescence (464), histology (92)`."""
    order = sorted(images, key=lambda name: (-images[name], name))
    shown = ", ".join(f"{name} ({images[name]})" for name in order[:_MOST])
    rest = sum(images[name] for name in order[_MOST:])
    return f"{shown}, {len(order) - _MOST} others ({rest})" if rest else shown
