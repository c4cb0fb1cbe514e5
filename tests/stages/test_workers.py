"""Any number of processes writes the same files: of drawn data in several shards, volumes and planes of files too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segops.contracts.dataset import Dataset
from segops.errors import UserError
from segops.params.split import SplitParams
from segops.params.validate import ValidateParams
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.split import split
from segops.stages.validate import validate
from tests.support.factories import ingest_params, make_pairs

NUCLEI = {"source": "synthetic://nuclei?n=48&size=64&seed=3&tiles=2", "group_by": "fields"}
ORGANS = {"source": "synthetic://organs?n=6&size=24&seed=1", "dimensions": 3}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segops.stages.ingest.MIB", 2**16)  # so that shards are many


def graph(root: Path, workers: int, params: dict[str, Any]) -> dict[str, bytes]:
    """The stages up to prepare; their files by name, without records of the run."""
    knobs = ingest_params(**{"images": "images", "masks": "masks", "shard_mib": 1, **params})
    ingest(knobs, dataset=root / "dataset", workers=workers)
    limits = ValidateParams(min_images=2, dtypes=["uint8", "int16"])
    validate(limits, dataset=root / "dataset", report=root / "report", workers=workers)
    split(SplitParams(), dataset=root / "dataset", report=root / "report", split=root / "split")
    prepare(dataset=root / "dataset", split=root / "split", prepared=root / "prepared", workers=workers)
    files = (path for path in root.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_one_two_and_three_processes_write_equal_bytes(tmp_path: Path) -> None:
    first = graph(tmp_path / "1", 1, NUCLEI)
    assert len(Dataset.load(tmp_path / "1/dataset").shards) > 3
    for workers in (2, 3):
        assert graph(tmp_path / str(workers), workers, NUCLEI) == first


def test_two_processes_write_the_bytes_of_one_for_volumes(tmp_path: Path) -> None:
    assert graph(tmp_path / "2", 2, ORGANS) == graph(tmp_path / "1", 1, ORGANS)


def test_faults_of_several_ranges_are_told_together_and_nothing_is_left(tmp_path: Path) -> None:
    make_pairs(tmp_path / "raw", n=40)
    for name in ("003", "020", "039"):
        (tmp_path / "raw" / "images" / f"{name}.png").write_bytes(b"no image")
    said = []
    for workers in (1, 2):
        faults = tmp_path / f"faults{workers}.csv"
        with pytest.raises(UserError, match=r"^images/003\.png: .* \(and 2 more of 40 images") as error:
            ingest(ingest_params(tmp_path / "raw"), dataset=tmp_path / "d", faults=faults, workers=workers)
        said.append((error.value.details, faults.read_bytes()))
        assert not (tmp_path / "d").exists()
        assert not list(tmp_path.glob(".d*"))
    assert said[0] == said[1]


def test_a_damaged_shard_of_many_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    graph(tmp_path, 1, NUCLEI)
    shard = tmp_path / "dataset/shards/shard-00002.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"shard-00002\.tar: "):
        prepare(dataset=tmp_path / "dataset", split=tmp_path / "split", prepared=tmp_path / "again", workers=2)
    assert not list(tmp_path.glob("*again*"))
