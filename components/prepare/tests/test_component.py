from __future__ import annotations

from pathlib import Path

from components.prepare import prepare
from segops.contracts.prepared import Prepared
from tests.support.component_steps import run_step
from tests.support.factories import tiny_dataset, tiny_split


def test_arrays_with_their_facts(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path)
    split = tiny_split(dataset, tmp_path / "assignment")
    made = run_step(prepare, tmp_path, code="", dataset=dataset, split=split)["prepared"]
    prepared = Prepared.load(Path(made.path))
    assert made.metadata == {
        "images": 24,
        "protocol": "grouped",
        "test_sha256": prepared.test_sha256[:12],
        "images_sha256": prepared.images_sha256[:12],
        "masks_sha256": prepared.masks_sha256[:12],
    }
