from __future__ import annotations

from pathlib import Path

from components.ingest import ingest
from segops.contracts.dataset import Dataset
from segops.params.compact import as_text
from tests.support.component_steps import refused, run_step
from tests.support.factories import ingest_params


def test_a_dataset_with_its_facts(tmp_path: Path) -> None:
    source = "synthetic://nuclei?n=6&size=32&seed=0"
    made = run_step(ingest, tmp_path, params=as_text(ingest_params(source)), data="", code="")["dataset"]
    dataset = Dataset.load(Path(made.path))
    assert made.metadata == {
        "name": "tiny",
        "source": source,
        "source_sha256": dataset.source_sha256[:12],
        "manifest_sha256": dataset.manifest_sha256[:12],
        "images": 6,
        "groups": dataset.groups,
    }


def test_a_source_that_is_not_there_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with refused(r"^segops: .*no/such\.zip.*"):
        run_step(ingest, tmp_path, params=as_text(ingest_params("no/such.zip")), data="", code="")
    assert not (tmp_path / "dataset").exists()


def test_a_param_of_the_wrong_type_is_one_line(tmp_path: Path) -> None:
    with refused(r"^segops: IngestParams: 'connections' = 'many'"):
        run_step(ingest, tmp_path, params='{"source": "x.zip", "connections": "many"}', data="", code="")
