"""Any number of processes writes the same files, and so do parts that are joined."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from segops.contracts.dataset import Dataset
from segops.contracts.prepared_part import PreparedPart
from segops.data.arrays import PreparedData
from segops.data.manifest import read_manifest
from segops.data.sources.organs import CLASSES
from segops.errors import UserError
from segops.params.validate import ValidateParams
from segops.stages.ingest import ingest
from segops.stages.prepare import join_prepared, prepare, prepare_part
from segops.validation.pixels import Pixels, look
from tests.support.factories import ingest_params, make_pairs, tiny_split

NUCLEI = {"source": "synthetic://nuclei?n=48&size=64&seed=3&tiles=2", "group_by": "fields"}
ORGANS = {"source": "synthetic://organs?n=6&size=24&seed=1", "dimensions": 3, "mask_values": CLASSES}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segops.stages.ingest.MIB", 2**16)  # so that shards are many


def read(root: Path, workers: int, params: dict[str, Any]) -> Path:
    knobs = ingest_params(**{"images": "images", "masks": "masks", "shard_mib": 1, **params})
    ingest(knobs, dataset=root / "dataset", workers=workers)
    return root / "dataset"


def files(*folders: Path) -> dict[str, bytes]:
    """The folders' files by name, without records of the run."""
    every = (path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(path.parents[1]).as_posix(): path.read_bytes() for path in every}


def looked(dataset: Path, workers: int) -> Pixels:
    about, manifest = read_manifest(dataset)
    pixels = look(dataset, manifest, ValidateParams(), len(about.classes), about.dimensions, workers=workers)
    assert pixels is not None
    return pixels


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of several shards and its split."""
    root = tmp_path_factory.mktemp("nuclei")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segops.stages.ingest.MIB", 2**16)
        tiny_split(read(root, 1, NUCLEI), root / "split")
    assert len(Dataset.load(root / "dataset").shards) > 3
    return root


@pytest.mark.parametrize("workers", [2, 3])
def test_several_processes_write_the_bytes_of_one(nuclei: Path, workers: int, tmp_path: Path) -> None:
    assert files(read(tmp_path, workers, NUCLEI)) == files(nuclei / "dataset")
    expected, pixels = looked(nuclei / "dataset", 1), looked(nuclei / "dataset", workers)
    pd.testing.assert_frame_equal(pixels.table, expected.table)
    assert pixels[1:] == expected[1:]
    for name, count in (("one", 1), ("several", workers)):
        prepare(dataset=nuclei / "dataset", split=nuclei / "split", prepared=tmp_path / name / "p", workers=count)
    assert files(tmp_path / "several/p") == files(tmp_path / "one/p")
    PreparedData.open(tmp_path / "several/p").verify_pixels()


def test_two_processes_write_the_bytes_of_one_for_volumes(tmp_path: Path) -> None:
    for workers in (1, 2):
        root = tmp_path / str(workers)
        tiny_split(read(root, workers, ORGANS), root / "split")
        prepare(dataset=root / "dataset", split=root / "split", prepared=root / "prepared", workers=workers)
    names = ("dataset", "prepared")
    assert files(*(tmp_path / "1" / name for name in names)) == files(*(tmp_path / "2" / name for name in names))


@pytest.mark.parametrize("parts", [1, 3, 9])
def test_parts_of_prepare_join_to_the_bytes_of_the_whole(nuclei: Path, parts: int, tmp_path: Path) -> None:
    given: Any = {"dataset": nuclei / "dataset", "split": nuclei / "split"}
    prepare(**given, prepared=tmp_path / "whole/p")
    folders = [tmp_path / f"part{number}" for number in range(parts)]
    for number, folder in enumerate(folders):
        prepare_part(**given, part=folder, number=number, parts=parts)
    join_prepared(**given, parts=folders[::-1], prepared=tmp_path / "joined/p")
    assert files(tmp_path / "joined/p") == files(tmp_path / "whole/p")


def test_a_part_that_lacks_or_is_of_other_data_is_refused(nuclei: Path, tmp_path: Path) -> None:
    given: Any = {"dataset": nuclei / "dataset", "split": nuclei / "split"}
    for number in range(2):
        prepare_part(**given, part=tmp_path / str(number), number=number, parts=2)
    with pytest.raises(UserError, match=r"prepare: parts \[1\] of 2; each is needed once"):
        join_prepared(**given, parts=[tmp_path / "1"], prepared=tmp_path / "p")
    about = PreparedPart.load(tmp_path / "0")
    about.model_copy(update={"assignment_sha256": "0" * 64}).save(tmp_path / "0")
    with pytest.raises(UserError, match=r"part\.json: of another dataset or split"):
        join_prepared(**given, parts=[tmp_path / "0", tmp_path / "1"], prepared=tmp_path / "p")
    about.save(tmp_path / "0")
    (tmp_path / "0/arrays.npz").write_bytes(b"cut off")
    with pytest.raises(UserError, match=r"arrays\.npz: not a readable part of prepare"):
        join_prepared(**given, parts=[tmp_path / "0", tmp_path / "1"], prepared=tmp_path / "p")
    assert not list(tmp_path.glob("*p"))


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


def test_a_damaged_shard_of_many_is_named_and_nothing_is_left(nuclei: Path, tmp_path: Path) -> None:
    shutil.copytree(nuclei, tmp_path / "n")
    shard = tmp_path / "n/dataset/shards/shard-00002.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"shard-00002\.tar: "):
        prepare(dataset=tmp_path / "n/dataset", split=tmp_path / "n/split", prepared=tmp_path / "p", workers=2)
    assert not list(tmp_path.glob("*p"))
