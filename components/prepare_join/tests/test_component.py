from __future__ import annotations

from pathlib import Path

from components.prepare_join import prepare_join
from components.prepare_part import prepare_part
from segops.contracts.prepared import Prepared
from segops.stages.prepare import prepare
from tests.support.component_steps import run_step
from tests.support.factories import tiny_dataset, tiny_split


def test_parts_join_to_what_one_step_prepares(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path)
    split = tiny_split(dataset, tmp_path / "assignment")
    given = {"code": "", "dataset": dataset, "split": split}
    parts = []
    for number in (1.0, 0.0):  # as Kubeflow's loops give numbers
        part = run_step(prepare_part, tmp_path / str(number), number=number, parts=2, **given)["part"]
        assert {key: part.metadata[key] for key in ("number", "parts")} == {"number": number, "parts": 2}
        parts.append(Path(part.path))
    joined = run_step(prepare_join, tmp_path, parts=parts, **given)["prepared"]
    prepare(dataset=dataset, split=split, prepared=tmp_path / "whole")
    for name in ("images.bin", "masks.bin", "index.parquet", "prepared.json"):
        assert (Path(joined.path) / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert joined.metadata["images_sha256"] == Prepared.load(tmp_path / "whole").images_sha256[:12]
