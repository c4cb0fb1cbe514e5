"""report.html: what was expected of the data, what was seen, and the images that failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from segops.contracts.dataset import Dataset, FileChange
from segops.contracts.validation import Expectation, ValidationReport

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

    from segops.data.shards import StoredExample

    Read = Callable[[str, str], StoredExample]

_THUMBNAILS = 24  # per expectation
_THUMBNAIL_PX = 128
_CHANGES, _CHANGED_FILES = 12, 6  # of ingest that are shown, and files of each


def page(report: ValidationReport, dataset: Dataset, manifest: pd.DataFrame, fixes: dict[str, str], read: Read) -> str:
    """Render the page about a data set's validation as HTML.

    Args:
        fixes: what to do about a failed expectation, by name.
        read: shard and image id to the example.
    """
    from segops.reports.pages import render

    failed = [expectation for expectation in report.expectations if not expectation.success]
    critical = [expectation for expectation in failed if expectation.severity == "critical"]
    warnings = [expectation for expectation in failed if expectation.severity == "warning"]
    rows = manifest.drop_duplicates("image_id").set_index("image_id")
    pictures = _Pictures(rows, read, dataset.class_colours)
    return render(
        "validation.html.j2",
        report=report,
        dataset=dataset,
        critical=critical,
        warnings=warnings,
        ordered=[*critical, *warnings, *(expectation for expectation in report.expectations if expectation.success)],
        fixes=fixes,
        cards=[
            (dataset.images, "images"),
            (dataset.groups, "groups"),
            (len(dataset.classes), f"classes: {', '.join(dataset.classes)}"),
            (f"{manifest['foreground_fraction'].mean():.1%}", "mean foreground"),
        ],
        facts=_facts(dataset),
        histograms=_histograms(manifest),
        galleries=[
            (expectation, pictures.of(expectation)) for expectation in [*critical, *warnings] if expectation.failing_ids
        ],
        height_px=_THUMBNAIL_PX,
    )


def _facts(dataset: Dataset) -> list[tuple[str, str]]:
    """List what the page says of the data set, by title."""

    def counts(images: dict[str, int]) -> str:
        return ", ".join(f"{name} ({count})" for name, count in sorted(images.items(), key=lambda pair: -pair[1]))

    return [
        ("Modalities", counts(dataset.modalities)),
        ("Sizes, px", counts(dataset.sizes)),
        ("Channels", counts(dataset.channels)),
        ("Sample types", counts(dataset.dtypes)),
        *([("Objects", f"{dataset.objects:,}")] if dataset.objects is not None else []),
        ("Share of pixels", ", ".join(f"{name} {share:.1%}" for name, share in dataset.class_share.items())),
        *((f"Changed: {change.change}", _changed(change)) for change in dataset.changes[:_CHANGES]),
    ]


def _changed(change: FileChange) -> str:
    """Write how many files and pixels a change of ingest touched, and the first files."""
    first = [f"{file} ({pixels} px)" for file, pixels in list(change.named.items())[:_CHANGED_FILES]]
    more = f" and {change.files - len(first)} more" if change.files > len(first) else ""
    return f"{change.files} {'file' if change.files == 1 else 'files'}, {change.pixels} px: {', '.join(first)}{more}"


def _histograms(manifest: pd.DataFrame) -> list[tuple[str, Markup]]:
    """Draw how the images' values are distributed, by title."""
    from segops.reports.charts.distributions import histogram

    columns = {
        "Foreground fraction": ("foreground_fraction", 1.0),
        "Mean intensity": ("intensity_mean", 1.0),
        "Intensity deviation": ("intensity_std", 0.5),
    }
    return [
        (title, histogram(title, manifest[column].to_numpy(), low=0, high=high))
        for title, (column, high) in columns.items()
    ]


class _Pictures:
    """Makes thumbnails of failing images, each one once."""

    def __init__(self, rows: pd.DataFrame, read: Read, class_colours: list[str]) -> None:
        self._rows, self._read, self._class_colours = rows, read, class_colours
        self._made: dict[str, dict[str, str]] = {}

    def of(self, expectation: Expectation) -> list[dict[str, str]]:
        """Return the thumbnails of an expectation's failing images, the first _THUMBNAILS of them."""
        return [self._picture(image_id) for image_id in expectation.failing_ids[:_THUMBNAILS]]

    def _picture(self, image_id: str) -> dict[str, str]:
        """Return the thumbnail of an image with its caption."""
        from segops.pictures.images import overlay, thumbnail_uri

        if image_id not in self._made:
            row = self._rows.loc[image_id]
            example = self._read(str(row["shard"]), image_id)
            image, mask = example.image_HWC, example.mask_HW
            caption = f"{row['height']}x{row['width']}, foreground {row['foreground_fraction']:.1%}"
            if image.shape[:2] == mask.shape:
                shown = overlay(image, mask, self._class_colours, opacity=0, objects_HW=example.objects_HW)
            else:
                shown, caption = image, f"{caption}, mask {mask.shape[0]}x{mask.shape[1]} not drawn"
            self._made[image_id] = {"id": image_id, "caption": caption, "uri": thumbnail_uri(shown, _THUMBNAIL_PX)}
        return self._made[image_id]
