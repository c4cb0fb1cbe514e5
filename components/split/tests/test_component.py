from __future__ import annotations

from pathlib import Path

from components.split import split
from segops.contracts.split import Split
from segops.params.compact import as_text
from segops.params.split import SplitParams
from segops.params.validate import ValidateParams
from segops.stages.validate import validate
from tests.support.component_steps import refused, run_step
from tests.support.factories import tiny_dataset


def test_a_split_with_its_facts(tmp_path: Path) -> None:
    dataset, report = tiny_dataset(tmp_path), tmp_path / "validation"
    validate(ValidateParams(), dataset=dataset, report=report)
    params = SplitParams(seed=9, fractions=(0.5, 0.25, 0.25), folds=2)
    outputs = run_step(split, tmp_path, params=as_text(params), code="", dataset=dataset, report=report)
    made = outputs["split"]
    assert Path(outputs["card"].path).read_text() == (Path(made.path) / "dataset_card.md").read_text()
    assert Path(outputs["page"].path).read_text() == (Path(made.path) / "split.html").read_text()
    assert made.metadata == {
        "protocol": "grouped",
        "seed": 9,
        "groups_on_two_sides": 0,
        "assignment_sha256": Split.load(Path(made.path)).assignment_sha256[:12],
    }


def test_data_without_a_report_is_refused_in_one_line(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path, n=6)
    with refused(r"^segops: .*report\.json"):
        run_step(split, tmp_path, params=as_text(SplitParams()), code="", dataset=dataset, report=tmp_path / "none")
