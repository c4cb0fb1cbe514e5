"""Any number of processes writes the same files, and so do parts that are joined."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from segops.contracts.dataset import Dataset
from segops.contracts.part import PartRecord
from segops.data.arrays import PreparedData
from segops.data.manifest import read_manifest
from segops.data.parallel import Part
from segops.data.sources.organs import CLASSES
from segops.errors import UserError
from segops.files import sha256_file
from segops.params.validate import ValidateParams
from segops.stages.ingest import ingest, ingest_part, join_ingested
from segops.stages.prepare import join_prepared, prepare, prepare_part
from segops.stages.validate import join_validated, validate, validate_part
from segops.validation.pixels import Pixels, Sample
from tests.support.factories import ingest_params, make_pairs, tiny_split

PAIRS: dict[str, Any] = {"images": "images", "masks": "masks", "shard_mib": 1}
NUCLEI = {"source": "synthetic://nuclei?n=48&size=64&seed=3&tiles=2", "group_by": "fields"}
ORGANS = {"source": "synthetic://organs?n=6&size=24&seed=1", "dimensions": 3, "mask_values": CLASSES}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segops.stages.ingest.MIB", 2**16)  # so that shards are many


def read(root: Path, workers: int, params: dict[str, Any]) -> Path:
    ingest(ingest_params(**PAIRS | params), dataset=root / "dataset", workers=workers)
    return root / "dataset"


def files(*folders: Path) -> dict[str, bytes]:
    """The folders' files by name, without records of the run."""
    every = (path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(path.parents[1]).as_posix(): path.read_bytes() for path in every}


def sample_of(dataset: Path) -> Sample:
    about, manifest = read_manifest(dataset)
    return Sample.of(dataset, manifest, ValidateParams(), len(about.classes), about.dimensions)


def looked(dataset: Path, workers: int) -> Pixels:
    sample = sample_of(dataset)
    pixels = sample.judge(sample.look(workers))
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


def parts_of(folder: Path, write: Callable[..., Any], count: int) -> list[Path]:
    """What `write` writes of each part, in folders, the last first."""
    for number in range(count):
        write(folder=folder / str(number), part=Part(number, count))
    return [folder / str(number) for number in reversed(range(count))]


@pytest.mark.parametrize("count", [2, 7])
def test_joined_parts_are_the_bytes_of_the_whole(nuclei: Path, count: int, tmp_path: Path) -> None:
    knobs, checks = ingest_params(**PAIRS | NUCLEI), ValidateParams()
    parts = parts_of(tmp_path / "i", partial(ingest_part, knobs), count)
    join_ingested(knobs, parts=parts, dataset=tmp_path / "dataset")
    assert files(tmp_path / "dataset") == files(nuclei / "dataset")

    given: Any = {"dataset": nuclei / "dataset"}
    validate(checks, **given, report=tmp_path / "whole/report")
    parts = parts_of(tmp_path / "v", partial(validate_part, checks, **given), count)
    join_validated(checks, **given, parts=parts, report=tmp_path / "joined/report")
    assert files(tmp_path / "joined/report") == files(tmp_path / "whole/report")

    given["split"] = nuclei / "split"
    prepare(**given, prepared=tmp_path / "whole/p")
    parts = parts_of(tmp_path / "p", partial(prepare_part, **given), count)
    join_prepared(**given, parts=parts, prepared=tmp_path / "joined/p")
    assert files(tmp_path / "joined/p") == files(tmp_path / "whole/p")


def test_a_part_that_lacks_is_damaged_or_of_other_work_is_refused(nuclei: Path, tmp_path: Path) -> None:
    knobs = ingest_params(**PAIRS | NUCLEI)
    parts = parts_of(tmp_path, partial(ingest_part, knobs), 2)
    joined: Any = {"dataset": tmp_path / "d"}
    with pytest.raises(UserError, match=r"^ingest: parts \[1\] of 2; each is needed once"):
        join_ingested(knobs, parts=parts[:1], **joined)
    with pytest.raises(UserError, match=r"^ingest: parts \[0, 0\] of 2; each is needed once"):
        join_ingested(knobs, parts=[parts[1], parts[1]], **joined)
    with pytest.raises(UserError, match=r"part\.json: a part of other params, data or ranges; run that part again"):
        join_ingested(knobs.model_copy(update={"shard_mib": 2}), parts=parts, **joined)
    ingest_part(knobs, folder=tmp_path / "foreign", part=Part(1, 3))
    with pytest.raises(UserError, match=r"foreign/part\.json: a part of other params, data or ranges"):
        join_ingested(knobs, parts=[parts[1], tmp_path / "foreign"], **joined)
    with pytest.raises(UserError, match=r"part\.json: no such file"):
        join_ingested(knobs, parts=[nuclei], **joined)
    for name in ("spools/000000", "state.json", "state.arrays"):
        kept = (parts[1] / name).read_bytes()
        (parts[1] / name).write_bytes(kept[:-1])
        with pytest.raises(UserError, match=f"{name}: not what the part's pod wrote; run that part again"):
            join_ingested(knobs, parts=parts, **joined)
        (parts[1] / name).write_bytes(kept)
    state = (parts[1] / "state.json").read_text()
    (parts[1] / "state.json").write_text(state.replace('"sha256": "', '"sha256": "0'))
    about = PartRecord.load(parts[1])
    hashes = {**about.files, "state.json": sha256_file(parts[1] / "state.json")}
    about.model_copy(update={"files": hashes}).save(parts[1])
    with pytest.raises(UserError, match=r"^ingest\.source changed while parts of it were read"):
        join_ingested(knobs, parts=parts, **joined)
    assert not list(tmp_path.glob("*d"))


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
    knobs = ingest_params(tmp_path / "raw")
    parts = parts_of(tmp_path / "parts", partial(ingest_part, knobs), 2)
    with pytest.raises(UserError, match=r"^images/003\.png: .* \(and 2 more of 40 images") as error:
        join_ingested(knobs, parts=parts, dataset=tmp_path / "d")
    assert error.value.details == said[0][0]


def test_a_damaged_shard_of_many_is_named_and_nothing_is_left(nuclei: Path, tmp_path: Path) -> None:
    shutil.copytree(nuclei, tmp_path / "n")
    shard = tmp_path / "n/dataset/shards/shard-00002.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"shard-00002\.tar: "):
        prepare(dataset=tmp_path / "n/dataset", split=tmp_path / "n/split", prepared=tmp_path / "p", workers=2)
    assert not list(tmp_path.glob("*p"))
