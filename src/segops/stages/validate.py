"""Validates a dataset: may this data train a model."""

from __future__ import annotations

from pathlib import Path

from segops.contracts.validation import Expectation, ValidationReport
from segops.errors import UserError
from segops.files import output_folder, run_record, write_text
from segops.params.validate import ValidateParams
from segops.progress import say

PAGE = "report.html"
_NAMED = 3  # failing images that a message names


def validate(params: ValidateParams, *, dataset: Path, report: Path) -> ValidationReport:
    """Check a dataset against the expectations, and write the report.

    Reads the dataset; writes `report.html` and `report.json`, also when an expectation fails. Warnings go to stderr.

    Raises:
        UserError: a critical expectation failed; the text names it, its images and the remedy.
    """
    from segops.data.manifest import read_manifest
    from segops.data.shards import read_example
    from segops.reports.validation_page import page
    from segops.validation.suite import run

    with output_folder(report) as folder, run_record(folder, "validate"):
        about, manifest = read_manifest(dataset)
        outcomes = run(manifest, params, about.classes)
        fixes = {check.name: check.fix for check, _ in outcomes}
        expectations = [expectation for _, expectation in outcomes]
        result = ValidationReport(
            manifest_sha256=about.manifest_sha256,
            images=len(manifest),
            success=not _failed(expectations, "critical"),
            expectations=expectations,
        )
        html = page(result, about, manifest, fixes, lambda shard, image_id: read_example(dataset, shard, image_id))
        write_text(folder / PAGE, html)
        result.save(folder)
    for warning in _failed(expectations, "warning"):
        say(f"validate: warning: {_line(warning, fixes)}")
    critical = _failed(expectations, "critical")
    if critical:
        more = f" (and {len(critical) - 1} more)" if len(critical) > 1 else ""
        raise UserError(f"validation failed: {_line(critical[0], fixes, see=report / PAGE)}{more}")
    return result


def _failed(expectations: list[Expectation], severity: str) -> list[Expectation]:
    """Return the expectations of a severity that failed."""
    return [failed for failed in expectations if failed.severity == severity and not failed.success]


def _line(failed: Expectation, fixes: dict[str, str], see: Path | None = None) -> str:
    """Word a failed expectation in a line: its images, or what was seen, and the remedy."""
    ids = failed.failing_ids
    named = ", ".join(ids[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")
    what = f"{len(ids)} image{'s' if len(ids) > 1 else ''}: {named}" if ids else failed.detail
    page = f" (see {see})" if see else ""
    return f"{failed.name}: {what}{page}; fix: {fixes[failed.name]}"
