"""report.html: what was expected of the data, what was seen, and the images that failed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from segops.contracts.dataset import Dataset, FileChange, UnusedFiles
from segops.contracts.validation import ValidationReport
from segops.contracts.volumes import Spacing
from segops.progress import counted

if TYPE_CHECKING:
    import pandas as pd

    from segops.reports.dataset_pictures import Beside, Read

_CHANGES, _CHANGED_FILES = 12, 6  # of ingest that are shown, and files of each


def page(
    report: ValidationReport,
    dataset: Dataset,
    manifest: pd.DataFrame,
    fixes: Mapping[str, str],
    read: Read,
    beside: Mapping[str, Mapping[str, Beside]] = MappingProxyType({}),
) -> str:
    """Render the page about a data set's validation as HTML.

    Args:
        fixes: what to do about a failed expectation, by name.
        read: shard and image id to the example.
        beside: what is shown beside an image that fails, by expectation and image id.
    """
    from segops.reports.charts.dataset import dataset_charts
    from segops.reports.dataset_pictures import THUMBNAIL_PX, DatasetPictures
    from segops.reports.pages import render

    failed = [expectation for expectation in report.expectations if not expectation.success]
    critical = [expectation for expectation in failed if expectation.severity == "critical"]
    warnings = [expectation for expectation in failed if expectation.severity == "warning"]
    rows = manifest.drop_duplicates("image_id").set_index("image_id")
    pictures = DatasetPictures(rows, read, dataset.class_colours)
    return render(
        "validation.html.j2",
        report=report,
        dataset=dataset,
        critical=critical,
        warnings=warnings,
        ordered=[*critical, *warnings, *(expectation for expectation in report.expectations if expectation.success)],
        fixes=fixes,
        cards=[
            (f"{dataset.images:,}", counted(dataset.images, "image").partition(" ")[2]),
            (f"{dataset.groups:,}", counted(dataset.groups, "group").partition(" ")[2]),
            (len(dataset.classes), f"classes: {', '.join(dataset.classes)}"),
            (f"{manifest['foreground_fraction'].mean():.1%}", "mean foreground"),
        ],
        facts=_facts(dataset),
        mosaic=pictures.mosaic(manifest),
        class_keys=list(zip(dataset.classes, dataset.class_colours, strict=True))[1:],
        charts=dataset_charts(dataset, manifest),
        galleries=[
            (expectation, pictures.of(expectation, beside.get(expectation.name, {})))
            for expectation in [*critical, *warnings]
            if expectation.failing_ids
        ],
        height_px=THUMBNAIL_PX,
    )


def _facts(dataset: Dataset) -> list[tuple[str, str]]:
    """List what the page says of the data set, by title."""

    def counts(images: dict[str, int]) -> str:
        return ", ".join(f"{name} ({count})" for name, count in sorted(images.items(), key=lambda pair: -pair[1]))

    return [
        ("Modalities", counts(dataset.modalities)),
        ("Sizes, px", counts(dataset.sizes)),
        ("Voxel, median, mm", _spacing(dataset.spacing_mm))
        if dataset.dimensions == 3
        else ("Pixel, µm", dataset.pixels),
        ("Channels", counts(dataset.channels)),
        ("Sample types", counts(dataset.dtypes)),
        *([("Bits of 16-bit samples", str(dataset.uint16_bits))] if "uint16" in dataset.dtypes else []),
        *([("Objects", f"{dataset.objects:,}")] if dataset.objects is not None else []),
        ("Share of pixels", ", ".join(f"{name} {share:.1%}" for name, share in dataset.class_share.items())),
        *([("Ignored pixels", f"{dataset.ignored_share:.1%}")] if dataset.ignored_share else []),
        *((f"Changed: {change.change}", _changed(change)) for change in dataset.changes[:_CHANGES]),
        *((f"Not used: {unused.kind}", _unused(unused)) for unused in dataset.unused if unused.images),
    ]


def _spacing(spacing_mm: Spacing | None) -> str:
    """Write a spacing along depth, height and width."""
    return " x ".join(f"{value:.4g}" for value in spacing_mm) if spacing_mm else "not said by all files"


def _unused(unused: UnusedFiles) -> str:
    """Write how many files of a kind no image uses, and the first of them."""
    more = f" and {unused.files - len(unused.named):,} more" if unused.files > len(unused.named) else ""
    return f"{counted(unused.files, 'file')}: {', '.join(unused.named)}{more}"


def _changed(change: FileChange) -> str:
    """Write how many files and pixels a change of ingest touched, and the first files."""
    first = [f"{file} ({pixels:,} px)" for file, pixels in list(change.named.items())[:_CHANGED_FILES]]
    more = f" and {change.files - len(first)} more" if change.files > len(first) else ""
    return f"{counted(change.files, 'file')}, {change.pixels:,} px: {', '.join(first)}{more}"
