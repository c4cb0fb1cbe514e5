"""Validates a dataset: may this data train a model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from segops.contracts.validation import Expectation, ValidationReport
from segops.errors import UserError
from segops.files import output_folder, run_record, write_text
from segops.params.validate import ValidateParams
from segops.progress import counted, say

if TYPE_CHECKING:
    from segops.validation.pixels import Beside, Pixels

PAGE = "report.html"
_NAMED = 3  # failing images that a message names


def validate(params: ValidateParams, *, dataset: Path, report: Path, workers: int = 1) -> ValidationReport:
    """Check a dataset against the expectations, and write the report.

    Reads the dataset; writes `report.html` and `report.json`, also when an expectation fails. Warnings go to stderr.
    The report doesn't depend on the number of `workers`, the processes that look at pixels.

    Raises:
        UserError: a critical expectation failed; the text names it, its images and the remedy.
    """
    from segops.data.manifest import read_manifest
    from segops.data.shards import read_example
    from segops.reports.validation_page import page
    from segops.validation.pixels import look
    from segops.validation.suite import run

    with output_folder(report) as folder, run_record(folder, "validate"):
        about, manifest = read_manifest(dataset)
        pixels = look(dataset, manifest, params, len(about.classes), about.dimensions, workers=workers)
        outcomes = run(manifest, params, about.classes, pixels.table if pixels else None)
        fixes = {check.name: check.fix for check, _ in outcomes}
        expectations = [expectation for _, expectation in outcomes]
        result = ValidationReport(
            manifest_sha256=about.manifest_sha256,
            images=len(manifest),
            success=not _failed(expectations, "critical"),
            expectations=expectations,
        )
        write_text(folder / PAGE, page(result, about, manifest, fixes, partial(read_example, dataset), _beside(pixels)))
        result.save(folder)
    for warning in _failed(expectations, "warning"):
        say(f"validate: warning: {_line(warning, fixes)}")
    critical = _failed(expectations, "critical")
    if critical:
        more = f" (and {len(critical) - 1} more)" if len(critical) > 1 else ""
        raise UserError(f"validation failed: {_line(critical[0], fixes, see=report / PAGE)}{more}")
    return result


def _beside(pixels: Pixels | None) -> dict[str, Mapping[str, Beside]]:
    """Return what the page shows beside an image that fails an expectation, by expectation and image id."""
    from segops.validation.pixel_checks import MISPLACED, RARELY_MISPLACED, RELATED

    if pixels is None:
        return {}
    return {MISPLACED: pixels.fitting, RARELY_MISPLACED: pixels.fitting, RELATED: pixels.relatives}


def _failed(expectations: list[Expectation], severity: str) -> list[Expectation]:
    """Return the expectations of a severity that failed."""
    return [failed for failed in expectations if failed.severity == severity and not failed.success]


def _line(failed: Expectation, fixes: dict[str, str], see: Path | None = None) -> str:
    """Word a failed expectation in a line: its images, or what was seen, and the remedy."""
    ids = failed.failing_ids
    named = [f"{name} ({failed.evidence[name]})" if name in failed.evidence else name for name in ids[:_NAMED]]
    more = ", ..." if len(ids) > _NAMED else ""
    what = f"{counted(len(ids), 'image')}: {', '.join(named)}{more}" if ids else failed.detail
    page = f" (see {see})" if see else ""
    return f"{failed.name}: {what}{page}; fix: {fixes[failed.name]}"
