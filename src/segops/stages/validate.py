"""Validates a dataset: may this data train a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from segops.contracts.part import PartRecord
from segops.contracts.validation import Expectation, ValidationReport
from segops.data.parallel import Part
from segops.data.part_files import load_parts, save_part, work_of
from segops.errors import UserError
from segops.files import output_folder, run_record, write_text
from segops.params.validate import ValidateParams
from segops.progress import counted, say

if TYPE_CHECKING:
    from segops.contracts.dataset import Dataset
    from segops.validation.pixels import Beside, Pixels, Sample, Seen

PAGE = "report.html"
_STAGE = "validate"
_NAMED = 3  # failing images that a message names


def validate(params: ValidateParams, *, dataset: Path, report: Path, workers: int = 1) -> ValidationReport:
    """Check a dataset against the expectations, and write the report.

    Reads the dataset; writes `report.html` and `report.json`, also when an expectation fails. Warnings go to stderr.
    The report doesn't depend on the number of `workers`, the processes that look at pixels.

    Raises:
        UserError: a critical expectation failed; the text names it, its images and the remedy.
    """
    about, sample = _opened(params, dataset)
    return _judged(params, about, sample, lambda: sample.look(workers), report)


def validate_part(params: ValidateParams, *, dataset: Path, folder: Path, part: Part, workers: int = 1) -> PartRecord:
    """Look at a range of the sampled images: a part of what `validate` does, which `join_validated` joins.

    Args:
        folder: for what the images show; replaced as a whole.
    """
    about, sample = _opened(params, dataset)
    with output_folder(folder) as unfinished:
        return save_part(unfinished, _STAGE, part, work_of(params, about.manifest_sha256), sample.look(workers, part))


def join_validated(params: ValidateParams, *, dataset: Path, parts: Sequence[Path], report: Path) -> ValidationReport:
    """Join the parts of `validate_part` to what `validate` writes, byte by byte.

    Raises: UserError: a part lacks, is damaged, or is of other params or data; and as `validate`.
    """
    from segops.validation.pixels import classes_of_seen

    about, sample = _opened(params, dataset)

    def joined() -> Seen:
        loaded = load_parts(parts, _STAGE, work_of(params, about.manifest_sha256), classes_of_seen())
        return sample.join(seen for _, seen in loaded)

    return _judged(params, about, sample, joined, report)


def _opened(params: ValidateParams, dataset: Path) -> tuple[Dataset, Sample]:
    """Read a dataset's tables, and draw the sample of its images."""
    from segops.data.manifest import read_manifest
    from segops.validation.pixels import Sample

    about, manifest = read_manifest(dataset)
    return about, Sample.of(dataset, manifest, params, len(about.classes), about.dimensions)


def _judged(
    params: ValidateParams, about: Dataset, sample: Sample, seen: Callable[[], Seen], report: Path
) -> ValidationReport:
    """Judge the manifest and what was seen of the sample, and write the report."""
    from segops.data.shards import read_example
    from segops.reports.validation_page import page
    from segops.validation.suite import run

    with output_folder(report) as folder, run_record(folder, "validate"):
        pixels, manifest = sample.judge(seen()), sample.manifest
        outcomes = run(manifest, params, about.classes, pixels.table if pixels else None)
        fixes = {check.name: check.fix for check, _ in outcomes}
        expectations = [expectation for _, expectation in outcomes]
        result = ValidationReport(
            manifest_sha256=about.manifest_sha256,
            images=len(manifest),
            success=not _failed(expectations, "critical"),
            expectations=expectations,
        )
        shown = partial(read_example, sample.dataset)
        write_text(folder / PAGE, page(result, about, manifest, fixes, shown, _beside(pixels)))
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
