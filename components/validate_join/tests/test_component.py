from __future__ import annotations

from pathlib import Path

from components.validate import validate
from components.validate_join import validate_join
from components.validate_part import validate_part
from segops.params.compact import as_text
from segops.params.validate import ValidateParams
from tests.support.component_steps import refused, run_step
from tests.support.factories import tiny_dataset


def test_parts_join_to_what_one_step_validates(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path, n=12)
    given = {"params": as_text(ValidateParams(min_images=12)), "code": "", "dataset": dataset}
    parts = [
        Path(run_step(validate_part, tmp_path / str(number), number=number, parts=2, **given)["part"].path)
        for number in (1.0, 0.0)  # as Kubeflow's loops give numbers
    ]
    joined = run_step(validate_join, tmp_path / "joined", parts=parts, **given)
    whole = run_step(validate, tmp_path / "whole", **given)
    assert joined["report"].metadata == whole["report"].metadata
    for name in ("report/report.json", "report/report.html", "page"):
        assert (tmp_path / "joined" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    given["params"] = as_text(ValidateParams(min_images=13))
    with refused(r"part\.json: a part of other params, data or ranges"):
        run_step(validate_join, tmp_path / "other", parts=parts, **given)
