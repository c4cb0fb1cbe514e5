from __future__ import annotations

from pathlib import Path

from components.validate import validate
from segops.contracts.validation import ValidationReport
from segops.params.compact import as_text
from segops.params.validate import ValidateParams
from tests.support.component_steps import refused, run_step
from tests.support.factories import tiny_dataset


def test_the_report_is_kubeflows_page(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path, n=12)
    made = run_step(validate, tmp_path, params=as_text(ValidateParams(min_images=12)), code="", dataset=dataset)
    report = ValidationReport.load(tmp_path / "report")
    assert made["report"].metadata == {"images": 12, "success": True, "manifest_sha256": report.manifest_sha256[:12]}
    page = Path(made["page"].path).read_text()
    assert page == (tmp_path / "report" / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")


def test_data_that_fails_ends_the_step_in_one_line_and_its_report_says_why(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path, n=12)
    with refused(r"^segops: .*images"):
        run_step(validate, tmp_path, params=as_text(ValidateParams(min_images=13)), code="", dataset=dataset)
    assert not ValidationReport.load(tmp_path / "report").success
